"""The Chromium of this machine, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright

_NAMES = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")

# Tests load pages of this machine only: no sandbox, since they may run as root, and no calls home, which a closed
# network refuses by the dozen.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium_path() -> str:
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    raise RuntimeError("Chromium is not on this machine; tests/services/install installs it")


@asynccontextmanager
async def launched_chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium_path(), args=list(_FLAGS))
        try:
            yield browser
        finally:
            await browser.close()
