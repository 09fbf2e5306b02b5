"""Waiting for a process to be up: by what it does, for as long as it lives, however slow the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

# Less than pytest gives a test, so that one that hangs is shown with what its process printed.
HANGS_AFTER_SECONDS = 200.0
_LOOK_SECONDS = 0.05


def wait_while_alive(
    reached: Callable[[], bool], *, is_alive: Callable[[], bool], log: Callable[[], str], what: str
) -> None:
    """Come back once `reached` is true. RuntimeError with the log of a process that ended before, or that hangs."""
    hangs_at = time.monotonic() + HANGS_AFTER_SECONDS
    while True:
        was_alive = is_alive()
        if reached():
            return
        if not was_alive:
            raise RuntimeError(f"{what}: it ended before; its log:\n{log()}")
        if time.monotonic() > hangs_at:
            raise RuntimeError(f"{what}: not after {HANGS_AFTER_SECONDS:.0f} s; its log:\n{log()}")
        time.sleep(_LOOK_SECONDS)


def answers(url: str) -> bool:
    """Whether a GET of this URL is answered with 200."""
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
