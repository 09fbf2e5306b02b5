"""The times at which the suite must pass, each after now, and how a process is put there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

_SOURCE = Path(__file__).with_name("moved_clock.c")


@dataclass(frozen=True)
class Moment:
    """`starts_at`: what the clock says when a run begins, from where it goes on. `zone`: that of the machine."""

    name: str
    starts_at: datetime
    zone: str = "UTC"

    def environment(self, library: Path, now: datetime) -> dict[str, str]:
        """What puts a process there that starts at `now` with these variables, and those that it starts in turn.

        Whoever starts the others must have the clock of the machine: it is what they are ahead of.
        """
        ahead = round((self.starts_at - now).total_seconds())
        return {"LD_PRELOAD": str(library), "CLOCK_AHEAD_SECONDS": str(ahead), "TZ": self.zone}


def moments(now: datetime, *, before_midnight: timedelta = timedelta(minutes=2)) -> list[Moment]:
    """`now` is UTC. In the two time zones it is another day than in UTC: the next one, and the one before."""
    tomorrow = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    days = [tomorrow + timedelta(days=number) for number in range(9 * 365)]
    noon = timedelta(hours=12)
    return [
        Moment("year-ahead", now + timedelta(days=365)),
        # One month later there is no such day.
        Moment("month-end", _first(days, month=1, day=31) + noon),
        Moment("leap-day", _first(days, month=2, day=29) + noon),
        Moment("before-midnight", tomorrow + timedelta(days=1) - before_midnight),
        Moment("kiritimati", tomorrow + noon, "Pacific/Kiritimati"),
        Moment("honolulu", tomorrow + timedelta(hours=6), "Pacific/Honolulu"),
    ]


def _first(days: Iterable[datetime], *, month: int, day: int) -> datetime:
    return next(each for each in days if (each.month, each.day) == (month, day))


def build_library(directory: Path, compiler: str = "cc") -> Path:
    """Compile moved_clock.c, for Linux. FileNotFoundError without a compiler, CalledProcessError when it refuses."""
    library = directory / "moved_clock.so"
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-o",
        str(library),
        str(_SOURCE),
        "-ldl",
    ]
    subprocess.run(command, check=True)
    library.chmod(0o755)  # for PostgreSQL, too, which may run as another user
    return library
