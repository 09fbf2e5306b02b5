"""Totals shared by files: live processes are summed, dead ones taken over, an earlier run forgotten."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.observability.metrics.counts import Cell, Totals
from app.observability.metrics.shared_totals import TotalsFiles
from app.settings import Settings, load_settings
from tests.services.command import REPOSITORY

_OTHER_PROCESS = """
import sys
from dataclasses import replace
from pathlib import Path
from app.llm.metrics.cells import Cell, Totals
from app.llm.metrics.files import TotalsFiles
from app.settings import load_settings
settings = replace(load_settings(environ={"LITELLM_MASTER_KEY": "sk-0123456789"}), state_dir=Path(sys.argv[1]))
files = TotalsFiles(settings)
files.open()
files.publish(Totals(cells={("chat",): Cell(requests=5)}, gauges={"running": 1.0}))
print("published", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return replace(load_settings(environ={"LITELLM_MASTER_KEY": "sk-0123456789"}), state_dir=tmp_path)


def other_process(settings: Settings) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", _OTHER_PROCESS, str(settings.state_dir)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"published\n"
    return process


def summed(files: TotalsFiles, own: Totals) -> Totals:
    found = Totals()
    found.add(own)
    for totals in files.others():
        found.add(totals)
    return found


def test_a_live_process_is_summed_and_a_killed_one_taken_over(settings: Settings) -> None:
    files, own = TotalsFiles(settings), Totals(cells={("chat",): Cell(requests=1)})
    files.open()
    process = other_process(settings)
    try:
        files.adopt(own)
        seen = summed(files, own)
        assert own.cells["chat",].requests == 1, "the other process lives"
        assert seen.cells["chat",].requests == 6 and seen.gauges == {"running": 1.0}
    finally:
        process.kill()
        process.wait()
    files.adopt(own)
    seen = summed(files, own)
    assert own.cells["chat",].requests == 6
    assert seen.cells["chat",].requests == 6 and seen.gauges == {}, "what a dead process was doing is over"
    files.adopt(own)
    assert own.cells["chat",].requests == 6, "it is taken over once"


def test_an_earlier_run_is_forgotten_but_no_process_that_lives(settings: Settings) -> None:
    dead, live = TotalsFiles(settings), TotalsFiles(settings)
    dead.open()
    dead.close(Totals(cells={("chat",): Cell(requests=5)}))
    live.open()
    live.publish(Totals(cells={("chat",): Cell(requests=2)}))
    TotalsFiles(settings).clear()
    assert summed(TotalsFiles(settings), Totals()).cells["chat",].requests == 2


def test_a_file_that_is_no_totals_is_left_out(settings: Settings) -> None:
    files = TotalsFiles(settings)
    files.open()
    files.publish(Totals())
    (path,) = settings.state_dir.glob("metrics/*/*.totals")
    path.with_name("other.totals").write_bytes(b"nonsense")
    assert summed(files, Totals()).cells == {}
