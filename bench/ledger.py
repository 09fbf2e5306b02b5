"""The spend ledger at a fixed rate: does it keep up, what does it cost, and how late does it make everything else?

    python -m bench.ledger --seconds 20 --rate 5000 [--freeze] --database-url postgres://…

One process records events of 10,000 keys, a few of which make most of the calls, first without writing them (what
recording costs by itself), then with the ledger's own background flush. A ticker that wants to wake up every 5 ms
stands for the calls that share the event loop. The database is filled when it is empty; what is written stays there.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import platform
import random
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import structlog

from app.models import Organization, Tag, Team, TeamMembership, User, VirtualKey
from app.settings import Settings
from app.spend.events import SpendEvent, SpendWindow
from app.spend.ledger import SpendLedger
from app.storage.database import Database

KEYS, USERS, TEAMS, ORGANIZATIONS, TAGS = 10_000, 2_000, 100, 10, 20
MODELS = ("gpt-4o-mini", "gpt-4o", "claude-sonnet", "gemini-flash")
_TICK = 0.005
_BASELINE_SECONDS = 5.0
_PERIOD_START = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class Phase:
    """What one phase measured. Times are seconds, `cpu` is the process's own."""

    recorded: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    backlog: int = 0
    written_at_half: int = 0
    written_at_end: int = 0
    late: list[float] = field(default_factory=list)

    @property
    def micros(self) -> float:
        """CPU microseconds for each recorded event."""
        return self.cpu / self.recorded * 1e6

    def late_ms(self) -> str:
        """p50, p99 and the worst of the ticker's delays, in milliseconds."""
        cuts = statistics.quantiles(self.late, n=100)
        return f"{cuts[49] * 1000:.2f} / {cuts[98] * 1000:.2f} / {max(self.late) * 1000:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=int, default=5000)
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--freeze", action="store_true", help="hide what the start has made from the garbage collector")
    arguments = parser.parse_args()
    if arguments.freeze:
        gc.collect()
        gc.freeze()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(bench(arguments.database_url, arguments.rate, arguments.seconds))


async def bench(url: str, rate: int, seconds: float) -> None:
    """Run both phases and print the table."""
    with tempfile.TemporaryDirectory(prefix="quarterdeck-bench-") as directory:
        alone_settings = Settings(database_url=url, state_dir=Path(directory) / "alone")
        settings = Settings(database_url=url, state_dir=Path(directory) / "written")
        database = Database(settings)
        await database.open()
        await database.prepare()
        await fill(database)
        alone = await run(SpendLedger(alone_settings, database), rate, min(_BASELINE_SECONDS, seconds))
        ledger = SpendLedger(settings, database)
        before = (time.process_time(), await server_cpu(database))
        await ledger.start()
        written = await run(ledger, rate, seconds)
        left, drain = ledger.waiting, time.perf_counter()
        await ledger.stop()
        drain = time.perf_counter() - drain
        flush_cpu = time.process_time() - before[0] - written.recorded * alone.micros / 1e6
        database_cpu = await server_cpu(database) - before[1]
        version = "SQLite" if database.is_sqlite else await server_version(database)
        await database.close()
    kept_up = (written.written_at_end - written.written_at_half) / written.seconds * 2
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {version}")
    print(f"{rate} events/s for {seconds:g} s: {kept_up:,.0f} rows written each second of the second half")
    print(f"backlog: {written.backlog:,} at most, {left:,} at the end, written {drain:.1f} s later")
    print(f"CPU per event: record {alone.micros:.0f} µs, flush {flush_cpu / written.recorded * 1e6:.0f} µs, ", end="")
    print(f"PostgreSQL {database_cpu / written.recorded * 1e6:.0f} µs")
    print(f"late (p50 / p99 / worst, ms): recording alone {alone.late_ms()}, recording and writing {written.late_ms()}")


async def server_version(database: Database) -> str:
    rows = await database.fetch("SHOW server_version")
    return f"PostgreSQL {rows[0]['server_version'].split()[0]}"


async def server_cpu(database: Database) -> float:
    """Seconds of CPU of the database's backends, where they run on this machine; else zero."""
    if database.is_sqlite:
        return 0.0
    rows = await database.fetch("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    return sum(cpu_seconds(row["pid"]) for row in rows)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process of this machine, zero when there is none of that number."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    fields = stat.read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def run(ledger: SpendLedger, rate: int, seconds: float) -> Phase:
    """Record at the rate for so long, and watch the clock beside it."""
    phase = Phase()
    ticker = asyncio.create_task(tick(phase.late))
    started, cpu = time.perf_counter(), time.process_time()
    while (elapsed := time.perf_counter() - started) < seconds:
        for _ in range(min(int(elapsed * rate) - phase.recorded, 200)):
            ledger.record(random_event())
            phase.recorded += 1
        phase.backlog = max(phase.backlog, ledger.waiting)
        if elapsed < seconds / 2:
            phase.written_at_half = phase.recorded - ledger.waiting
        await asyncio.sleep(0.002)
    phase.written_at_end = phase.recorded - ledger.waiting
    phase.cpu, phase.seconds = time.process_time() - cpu, time.perf_counter() - started
    ticker.cancel()
    return phase


async def tick(late: list[float]) -> None:
    while True:
        wanted = time.perf_counter() + _TICK
        await asyncio.sleep(_TICK)
        late.append(time.perf_counter() - wanted)


def random_event() -> SpendEvent:
    """A call of a key that is the likelier the smaller its number; half have a tag, a quarter an end user."""
    number = int(KEYS * random.random() ** 3)
    user, team = number % USERS, number % TEAMS
    ended = datetime.now(UTC)
    return SpendEvent(
        request_id=str(uuid4()),
        call_type="acompletion",
        endpoint="/chat/completions",
        start_time=ended - timedelta(milliseconds=600),
        end_time=ended,
        cost=Decimal(random.randrange(1, 10**9)).scaleb(-12),
        prompt_tokens=900,
        completion_tokens=120,
        key_hash=f"{number:064x}",
        user_id=f"user-{user}",
        team_id=f"team-{team}",
        organization_id=f"org-{team % ORGANIZATIONS}",
        model=MODELS[number % 4],
        model_id="d" * 36,
        model_group=MODELS[number % 4],
        provider="openai",
        api_base="https://provider.example/v1",
        end_user=f"customer-{random.randrange(5000)}" if random.random() < 0.25 else "",
        session_id=str(uuid4()),
        call_id=str(uuid4()),
        ip_address="10.0.0.7",
        tags=[f"tag-{number % TAGS}"] if number % 2 else [],
        windows=[SpendWindow("team", f"team-{team}", "", "1d", _PERIOD_START)] if number % 2 else [],
        metadata={"usage_object": {"prompt_tokens": 900, "completion_tokens": 120, "total_tokens": 1020}},
    )


async def fill(database: Database) -> None:
    """Rows of whoever the events name, unless they are there."""
    with database.active():
        if await VirtualKey.all().exists():
            return
        await Organization.bulk_create([Organization(organization_id=f"org-{n}") for n in range(ORGANIZATIONS)])
        await Team.bulk_create([Team(team_id=f"team-{n}") for n in range(TEAMS)])
        await User.bulk_create([User(user_id=f"user-{n}") for n in range(USERS)], batch_size=500)
        await Tag.bulk_create([Tag(tag_name=f"tag-{n}") for n in range(TAGS)])
        members = {(n % TEAMS, n % USERS) for n in range(KEYS)}
        await TeamMembership.bulk_create(
            [TeamMembership(team_id=f"team-{t}", user_id=f"user-{u}") for t, u in members], batch_size=500
        )
        await VirtualKey.bulk_create([VirtualKey(token=f"{n:064x}") for n in range(KEYS)], batch_size=500)


if __name__ == "__main__":
    main()
