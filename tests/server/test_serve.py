"""How an instance begins and ends: built once in each process, and not gone before what it began is finished."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.auth.instance import bearer
from tests.llm.live_worker import LiveWorker, content_of, deployment, payloads
from tests.services.command import REPOSITORY
from tests.services.quarterdeck import QuarterdeckFactory
from tests.upstream import ScriptedUpstream, Stream

# Python runs a module of this name at the start of every process that finds one on its path.
_NOTE_READERS = """
import os, sys

def note(event, arguments):
    if event == "open" and str(arguments[0]) == os.environ["WATCHED_FILE"]:
        with open(os.environ["NOTES"], "a") as notes:
            notes.write(f"{os.getpid()}\\n")

sys.addaudithook(note)
"""


@pytest.mark.parametrize(
    ("arguments", "builders", "readers"),
    [([], 1, 1), (["--workers", "2"], 2, 3), (["--server", "granian", "--workers", "2"], 2, 1)],
    ids=["one process", "spawned processes", "forked processes"],
)
async def test_each_process_builds_the_app_once_and_reads_the_file_once_at_most(
    quarterdeck_process: QuarterdeckFactory,
    migrated_postgres_url: str,
    tmp_path: Path,
    arguments: list[str],
    builders: int,
    readers: int,
) -> None:
    """Also when the API stored settings, which are laid over those of the file before anything is built."""
    config, notes = tmp_path / "config.yaml", tmp_path / "notes"
    config.write_text("model_list: []")
    (tmp_path / "sitecustomize.py").write_text(_NOTE_READERS)
    watched = {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}", "WATCHED_FILE": str(config), "NOTES": str(notes)}
    process = quarterdeck_process(config, database_url=migrated_postgres_url, env=watched, arguments=arguments)
    async with httpx.AsyncClient(trust_env=False, timeout=60, base_url=process.url) as http:
        stored = {"litellm_settings": {"request_timeout": 17}}
        answer = await http.post("/config/update", json=stored, headers=bearer(process.master_key))
        assert answer.status_code == 200, answer.text
    process.kill(signal.SIGTERM)
    before = process.log_text()
    notes.unlink()
    process.start()

    def built() -> Counter[int]:
        """Process id -> how many apps it said it built at this start."""
        return Counter(map(int, re.findall(r"app built\s+pid=(\d+)", process.log_text().removeprefix(before))))

    if arguments:
        all_built = "all processes that serve have built their app"
        process.wait_until(lambda: len(set(built()) - {process.pid}) == builders, all_built)
    process.kill(signal.SIGTERM)
    assert list(built().values()) == [1] * builders  # the process that starts others builds none
    read = Counter(notes.read_text().split())
    assert list(read.values()) == [1] * readers


async def test_an_instance_that_drains_is_not_ready_and_still_serves(quarterdeck_process: QuarterdeckFactory) -> None:
    process = quarterdeck_process(env={"QUARTERDECK_DRAIN_SECONDS": "60"})
    async with httpx.AsyncClient(trust_env=False, timeout=10, base_url=process.url) as http:
        os.kill(process.pid, signal.SIGTERM)
        answer = await http.get("/health/readiness")
        while answer.status_code == 200:  # the signal is on its way
            answer = await http.get("/health/readiness")
        assert (answer.status_code, answer.json()) == (503, {"status": "shutting_down"})
        headers = {"Authorization": f"Bearer {process.master_key}"}
        assert (await http.get("/health/drain", headers=headers)).json() == {"status": "draining", "in_flight": 0}
        os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 0, "a second signal ends the waiting"


async def test_a_stream_that_runs_is_finished(quarterdeck_process: QuarterdeckFactory) -> None:
    async with ScriptedUpstream() as upstream, httpx.AsyncClient(trust_env=False, timeout=10) as http:
        upstream.on_model("gpt-4o-mini", Stream(("a", "b", "c", "d"), interval=0.2))
        process = quarterdeck_process({"model_list": [deployment("chat", upstream.url)]})
        async with LiveWorker(process, http).stream(process.master_key) as answer:
            received = b""
            async for chunk in answer.aiter_bytes():
                if not received:
                    os.kill(process.pid, signal.SIGTERM)
                received += chunk
        frames = payloads(received)
        assert content_of(frames) == "abcd" and frames[-1] == "[DONE]"
        assert process.wait() == 0
