"""The journal outlives its process and belongs to one process at a time."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from app.spend.journal import Journal

LINES = [b'{"n":1}', b'{"n":2}', b'{"n":3}']

_DIES = """
import os, signal, sys
from pathlib import Path
from app.spend.journal import Journal
journal = Journal(Path(sys.argv[1]))
for number in range(200):
    journal.append(b'{"n":%d}' % number)
os.kill(os.getpid(), signal.SIGKILL)
"""


def filled(directory: Path, lines: list[bytes] = LINES) -> Journal:
    journal = Journal(directory)
    for line in lines:
        journal.append(line)
    return journal


def files(directory: Path, pattern: str = "*") -> list[Path]:
    return sorted(directory.glob(pattern))


def test_each_event_is_in_the_file_at_once(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    (file,) = files(tmp_path)
    assert file.read_bytes() == b"".join(line + b"\n" for line in LINES)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert journal.waiting == 3
    journal.release()


def test_what_was_closed_is_not_written_to_any_more(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    (segment,) = journal.closed()
    journal.append(b"later")
    assert segment.lines() == LINES
    assert journal.waiting == 4
    assert [part.lines() for part in journal.closed()] == [LINES, [b"later"]]
    journal.release()


def test_a_finished_segment_leaves_nothing_behind(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    (segment,) = journal.closed()
    segment.discard()
    journal.finished(segment)
    assert (files(tmp_path), journal.closed(), journal.waiting) == ([], [], 0)


def test_a_full_segment_is_closed_by_itself(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for _ in range(2501):
        journal.append(b"x")
    assert len(files(tmp_path)) == 2
    assert journal.waiting == 2501
    journal.release()


def test_a_living_journal_is_left_alone(tmp_path: Path) -> None:
    living = filled(tmp_path)
    other = Journal(tmp_path)
    assert other.adopt_orphans() == 0
    assert other.closed() == []
    living.release()
    assert other.adopt_orphans() == 3
    other.release()


def test_own_segments_are_not_adopted_twice(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    assert journal.adopt_orphans() == 0
    journal.closed()
    assert journal.adopt_orphans() == 0
    journal.release()


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    finished = subprocess.run([sys.executable, "-c", _DIES, str(tmp_path)], check=False, cwd=Path(__file__).parents[2])
    assert finished.returncode == -signal.SIGKILL
    heir = Journal(tmp_path)
    assert heir.adopt_orphans() == 200
    (segment,) = heir.closed()
    assert segment.lines() == [b'{"n":%d}' % number for number in range(200)]
    heir.release()


def test_what_is_set_aside_is_kept_apart_for_a_person(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    (segment,) = journal.closed()
    path = segment.set_aside(LINES[1:2])
    journal.finished(segment)
    assert files(tmp_path) == [path]
    assert path.suffix == ".rejected" and path.read_bytes() == LINES[1] + b"\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    heir = Journal(tmp_path)
    assert heir.adopt_orphans() == 0


def test_a_directory_is_made_when_it_is_needed(tmp_path: Path) -> None:
    journal = filled(tmp_path / "a" / "b")
    assert len(files(tmp_path / "a" / "b")) == 1
    journal.release()
    assert Journal(tmp_path / "never" / "there").adopt_orphans() == 0


def test_a_segment_that_cannot_be_made_is_an_error_not_silence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        filled(tmp_path / "file")
    assert files(tmp_path) == [tmp_path / "file"]


_FILLS_THE_DISK = """
import resource, sys
from pathlib import Path
from app.spend.journal import Journal
journal = Journal(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
journal.append(b"a" * 60)
try:
    journal.append(b"b" * 60)
except OSError as problem:
    print(problem.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
journal.append(b"c" * 60)
"""


def test_a_line_that_does_not_fit_leaves_nothing_behind_for_the_next_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FILLS_THE_DISK, str(tmp_path)]
    finished = subprocess.run(command, check=True, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert finished.stdout == "No space left on device\n"
    (file,) = files(tmp_path)
    assert file.read_bytes().splitlines() == [b"a" * 60, b"c" * 60]
