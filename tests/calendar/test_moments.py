"""The times at which `make test-calendar` runs the tests, and which tests it runs."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as some

from tests.calendar.__main__ import parse, pytest_arguments
from tests.calendar.moments import moments
from tests.calendar.selection import QUICK
from tests.source_files import ROOT


# fixed dates: whatever the time is
@given(some.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1), timezones=some.just(UTC)))  # noqa: DTZ001 (bounds)
def test_every_moment_is_ahead_and_what_its_name_says(now: datetime) -> None:
    at = {moment.name: moment for moment in moments(now)}
    starts = {name: moment.starts_at for name, moment in at.items()}
    assert all(start > now for start in starts.values())
    assert (starts["month-end"] + timedelta(days=1)).day == 1
    assert (starts["leap-day"].month, starts["leap-day"].day) == (2, 29)
    assert (starts["before-midnight"] + timedelta(minutes=2)).time().isoformat() == "00:00:00"
    for name, days in (("kiritimati", 1), ("honolulu", -1)):
        local = starts[name].astimezone(ZoneInfo(at[name].zone))
        assert local.date() == starts[name].date() + timedelta(days=days)


def test_what_is_named_here_is_there() -> None:
    missing = [name for name in QUICK if not (ROOT / name.partition("::")[0]).exists()]
    assert not missing


def test_options_of_pytest_go_to_pytest() -> None:
    options, given = parse(["--moment", "leap-day", "tests/admin", "-x", "-k", "spend"])
    assert (options.moment, options.is_quick, given) == (["leap-day"], False, ["tests/admin", "-x", "-k", "spend"])
    assert pytest_arguments(given, is_quick=options.is_quick, has_servers=options.has_servers)[-4:] == given
    assert set(QUICK) < set(pytest_arguments([], is_quick=True, has_servers=False))
    left_out = "tests.calendar.without_servers"
    assert left_out in pytest_arguments([], is_quick=False, has_servers=False)
    assert left_out not in pytest_arguments([], is_quick=False, has_servers=True)


def test_a_quick_run_starts_no_server() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "tests.calendar.without_servers"]
    listed = subprocess.check_output([*command, "tests/models/test_budget_period.py"], cwd=ROOT, text=True)
    assert "[sqlite" in listed and "[postgres" not in listed and "left_to_the_next_round" not in listed
