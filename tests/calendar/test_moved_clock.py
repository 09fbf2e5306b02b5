"""The clock of `make test-calendar`, which goes on from another time for all that is started but the servers."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.calendar.__main__ import check_clock
from tests.calendar.moments import Moment, build_library, moments

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("clock"))


@pytest.mark.parametrize("name", [moment.name for moment in moments(NOW)])
def test_the_clock_goes_on_from_the_moment_also_in_what_is_started(library: Path, name: str) -> None:
    now = datetime.now(UTC)
    (moment,) = (each for each in moments(now) if each.name == name)
    environment = {**os.environ, **moment.environment(library, now)}
    check_clock(moment, environment)
    with pytest.raises(RuntimeError, match="has no effect"):
        check_clock(moment, {**environment, "LD_PRELOAD": ""})


@pytest.mark.parametrize("server", ["postgres", "redis-server"])
def test_servers_keep_their_own_clock(library: Path, server: str) -> None:
    """`date` under their name."""
    moment = Moment("far", NOW + timedelta(days=4000))
    environment = {**os.environ, **moment.environment(library, NOW)}
    seconds = int(subprocess.check_output([server, "+%s"], executable="/bin/date", env=environment))
    assert abs(datetime.fromtimestamp(seconds, UTC) - datetime.now(UTC)) < timedelta(minutes=1)
