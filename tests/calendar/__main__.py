"""The suite at other times: `make test-calendar`, with `ARGS="--moment leap-day tests/admin -x"` for a part of it.

What is not ours goes to pytest. The clock of all that the tests start is moved. PostgreSQL and Redis would keep theirs,
so the tests that want them are left out, unless `--with-servers` asks for them too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from tests.calendar.moments import Moment, build_library, moments
from tests.calendar.selection import QUICK

# What a process shows before its clock is believed: that it is moved, also in what it starts, and that waiting works.
_PROBE = """
import datetime, subprocess, threading, time
began = time.monotonic()
time.sleep(0.01)
assert not threading.Event().wait(0.01) and time.monotonic() - began < 60
print(datetime.datetime.now(datetime.UTC).isoformat(), subprocess.check_output(["date", "+%s"], text=True))
"""
_MOST_SECONDS_OFF = 60.0


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our options, and what goes to pytest."""
    names = [moment.name for moment in moments(datetime.now(UTC))]
    parser = argparse.ArgumentParser(prog="make test-calendar", description=__doc__, allow_abbrev=False)
    parser.add_argument("--moment", action="append", choices=names, help="only this one; may be given more than once")
    parser.add_argument(
        "--quick", action="store_true", dest="is_quick", help="only what looks at days most, on SQLite: about a minute"
    )
    parser.add_argument(
        "--with-servers", action="store_true", dest="has_servers", help="also the tests that want PostgreSQL or Redis"
    )
    options, given = parser.parse_known_args(arguments)
    options.moment = options.moment or names
    return options, given


def pytest_arguments(given: Sequence[str], *, is_quick: bool, has_servers: bool) -> list[str]:
    leaving_out = [] if has_servers else ["-p", "tests.calendar.without_servers"]
    if is_quick:
        return ["-q", "--durations-min=60", *leaving_out, *QUICK, *given]
    return ["-n", "auto", *leaving_out, *given]


def check_clock(moment: Moment, environment: dict[str, str]) -> None:
    """RuntimeError when a Python, or a program that it starts, does not have the clock of the moment."""
    answer = subprocess.run([sys.executable, "-c", _PROBE], env=environment, check=True, capture_output=True, text=True)
    own, of_child = answer.stdout.split()
    for seen in (datetime.fromisoformat(own), datetime.fromtimestamp(int(of_child), UTC)):
        if abs((seen - moment.starts_at).total_seconds()) > _MOST_SECONDS_OFF:
            raise RuntimeError(f"the clock says {seen} and not {moment.starts_at}: LD_PRELOAD has no effect here")


def run_at(name: str, library: Path, arguments: Sequence[str], *, is_quick: bool, waits: bool) -> bool:
    """Whether pytest passes at the moment of this name. `waits`: show what it says when it ends."""
    now = datetime.now(UTC)
    before_midnight = timedelta(seconds=10) if is_quick else timedelta(minutes=2)  # so that midnight is in the run
    (moment,) = (each for each in moments(now, before_midnight=before_midnight) if each.name == name)
    environment = {**os.environ, **moment.environment(library, now)}
    check_clock(moment, environment)
    title = f"\n=== {name}: from {moment.starts_at:%Y-%m-%d %H:%M:%S} UTC on, {moment.zone}"
    command = [sys.executable, "-m", "pytest", *arguments]
    if waits:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        print(title, done.stdout, sep="\n", end="", flush=True)
    else:
        print(title, flush=True)
        done = subprocess.run(command, env=environment, text=True, check=False)
    return done.returncode == 0


def main(arguments: Sequence[str]) -> int:
    options, given = parse(arguments)
    at_once = min(os.cpu_count() or 1, len(options.moment)) if options.is_quick else 1
    with tempfile.TemporaryDirectory(prefix="quarterdeck-clock-") as directory, ThreadPoolExecutor(at_once) as threads:
        Path(directory).chmod(0o755)
        library = build_library(Path(directory))
        chosen = pytest_arguments(given, is_quick=options.is_quick, has_servers=options.has_servers)
        run = partial(run_at, library=library, arguments=chosen, is_quick=options.is_quick, waits=at_once > 1)
        passed = dict(zip(options.moment, threads.map(run, options.moment), strict=True))
    failed = [name for name, has_passed in passed.items() if not has_passed]
    print(f"\nFailed: {', '.join(failed)}" if failed else f"\nPassed: {', '.join(options.moment)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
