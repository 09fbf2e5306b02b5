"""A call is told once: it passes the files that the docstring of app/llm lists, in that order."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest
from quart import Quart

import app.llm
from app import create_app
from app.settings import Settings
from tests.conftest import MASTER_KEY
from tests.source_files import ROOT
from tests.upstream import ScriptedUpstream

_MAX_FILES = 15


def way() -> list[tuple[str, ...]]:
    """The numbered lines of the docstring: one file each, the first one two of which a call takes one."""
    lines = re.findall(r"^ +\d+  (\S+(?:, or \S+)?)  ", app.llm.__doc__ or "", re.MULTILINE)
    return [tuple(_full(name) for name in line.split(", or ")) for line in lines]


def _full(name: str) -> str:
    return f"app/{name}" if name.startswith(("auth/", "protocols/", "spend/")) else f"app/llm/{name}"


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture
async def instance(upstream: ScriptedUpstream, migrated_sqlite_url: str, tmp_path: Path) -> AsyncIterator[Quart]:
    params = {"model": "openai/gpt-4o-mini", "api_base": upstream.url, "api_key": "sk-of-the-provider"}
    settings = Settings(
        master_key=MASTER_KEY,
        database_url=migrated_sqlite_url,
        state_dir=tmp_path,
        model_list=({"model_name": "m", "litellm_params": params},),
    )
    built = create_app(settings)
    async with built.test_app():
        yield built


async def files_passed(instance: Quart, body: dict[str, Any]) -> list[str]:
    """The files of app/ that a call enters, in the order of their first function."""
    entered: dict[str, None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(f"{ROOT}/app/"):
            entered.setdefault(name.removeprefix(f"{ROOT}/"))

    transport = httpx.ASGITransport(app=instance)  # type: ignore[arg-type]
    headers = {"Authorization": f"Bearer {MASTER_KEY}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        await client.post("/v1/chat/completions", json=body, headers=headers)
        sys.setprofile(note)
        try:
            answer = await client.post("/v1/chat/completions", json=body, headers=headers)
        finally:
            sys.setprofile(None)
    assert answer.status_code == 200, answer.text
    return list(entered)


def test_the_way_is_short_and_its_files_are_there() -> None:
    files = way()
    assert 10 < len(files) <= _MAX_FILES
    missing = [name for line in files for name in line if not (ROOT / name).is_file()]
    assert not missing


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_call_passes_the_files_of_its_way_in_order(instance: Quart, is_stream: bool) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Ahoy"}], "stream": is_stream}
    passed = await files_passed(instance, body)
    told = [next((name for name in line if name in passed), line[0]) for line in way()]
    expected = told if is_stream else [name for name in told if not name.endswith("streaming.py")]
    if not is_stream:
        # Its cost is known before its headers are sent; a stream's only at its end.
        expected[-2:] = reversed(expected[-2:])
    missing = [name for name in expected if name not in passed]
    assert not missing, f"the docstring of app/llm tells of files that a call does not pass: {missing}"
    order = [name for name in passed if name in expected]
    assert order == expected, "\n".join(order)
