"""Eight processes write spend of the same twenty keys to one PostgreSQL, one of them is killed: every sum is exact.

`LEDGER_STORM_SECONDS=60` makes the storm as long as the project promises; by default it is short.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path

from app.models import (
    BudgetWindow,
    DailyEntitySpend,
    DailySpend,
    EndUser,
    ModelAccessGroupBudget,
    Organization,
    OrganizationMembership,
    SpendLog,
    Tag,
    Team,
    TeamMembership,
    User,
    VirtualKey,
)
from app.spend.events import SpendEvent
from app.spend.scopes import member_id
from app.storage.database import Database
from tests.services.postgres import PostgresServer
from tests.services.run_directory import RunDirectory
from tests.services.waiting import wait_while_alive
from tests.source_files import ROOT
from tests.spend.ledgers import SpendInstance, deadlocks, instance_of
from tests.spend.storm import KEYS, call, key_of

_SECONDS = float(os.environ.get("LEDGER_STORM_SECONDS", "8"))
_PROCESSES = 8
_RATE = 150  # calls a second of each process

Sums = dict[tuple[str, ...], Decimal]


async def test_eight_processes_write_spend_of_the_same_keys_exactly(
    migrated_postgres_url: str, postgres_server: PostgresServer, run_directory: RunDirectory, tmp_path: Path
) -> None:
    names = [f"p{number}" for number in range(_PROCESSES)]
    async with instance_of(migrated_postgres_url, tmp_path) as instance:
        await add_everyone(instance.database)
        with storm(run_directory, migrated_postgres_url, tmp_path, names) as processes:
            time.sleep(_SECONDS / 2)
            processes[0].kill()
            assert [process.wait(timeout=_SECONDS + 60) for process in processes] == [-9, *[0] * (_PROCESSES - 1)]
        await instance.ledger.start()  # an heir of the one that was killed, unless another process was already
        await instance.ledger.stop()
        counts = await recorded(instance)
        for name in names:
            # A process notes what it has recorded a moment later; the one that was killed may not have come to it.
            noted = int((tmp_path / f"{name}.count").read_text())
            assert counts[name] == noted or (name == names[0] and noted <= counts[name] <= noted + _RATE)
        calls = [call(name, number) for name in names for number in range(counts[name])]
        assert await written(instance.database) == expected(calls)
        assert instance.files("*.jsonl") == instance.files("*.rejected") == []
        assert deadlocks(postgres_server, migrated_postgres_url) == 0


@contextmanager
def storm(run: RunDirectory, url: str, state_dir: Path, names: list[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes, ended whatever happens."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name in names:
            command = [sys.executable, "-m", "tests.spend.storm", url, str(state_dir), name, str(_SECONDS), str(_RATE)]
            processes.append(subprocess.Popen(command, cwd=ROOT, start_new_session=True))
            run.note_process(processes[-1].pid)
        for name, process in zip(names, processes, strict=True):
            wait_while_alive(
                (state_dir / f"{name}.count").exists,
                is_alive=partial(is_at_work, process),
                log=lambda: "(printed above)",
                what=f"process {name} of the storm makes calls",
            )
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
            run.forget_process(process.pid)


def is_at_work(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None


async def add_everyone(database: Database) -> None:
    with database.active():
        for number in range(KEYS):
            await VirtualKey.create(token=key_of(number))
            await TeamMembership.get_or_create(team_id=f"team-{number % 4}", user_id=f"user-{number % 5}")
            await OrganizationMembership.get_or_create(
                organization_id=f"org-{number % 2}", user_id=f"user-{number % 5}"
            )
        await User.bulk_create([User(user_id=f"user-{number}") for number in range(5)])
        await Team.bulk_create([Team(team_id=f"team-{number}") for number in range(4)])
        await Organization.bulk_create([Organization(organization_id=f"org-{number}") for number in range(2)])
        await Tag.bulk_create([Tag(tag_name=f"tag-{number}") for number in range(6)])
        await ModelAccessGroupBudget.create(access_group="fast")


async def recorded(instance: SpendInstance) -> Counter[str]:
    """How many calls of each process have a row. Raises when numbers are missing between them: a call was lost."""
    with instance.database.active():
        ids = [row.request_id for row in await SpendLog.all().only("request_id")]
    counts = Counter(id.partition("-")[0] for id in ids)
    assert {f"{name}-{number}" for name, count in counts.items() for number in range(count)} == set(ids)
    return counts


def expected(calls: Iterable[SpendEvent]) -> Sums:
    """Every total, from the calls alone."""
    sums: Counter[tuple[str, ...]] = Counter()
    for event in calls:
        day, user, organization = event.start_time.date().isoformat(), event.user_id or "", event.organization_id or ""
        members = {
            "organization": {organization} - {""},
            "end_user": {event.end_user} - {""},
            "tag": set(event.tags),
        }
        names = [
            ("logs",),
            ("day", day, event.key_hash, event.model),
            ("organization member", organization, user),
            ("window", event.team_id or ""),
            ("all", "", day, "", event.model),
            *((kind, id) for kind, id in event.scopes()),
            *((kind, id, day, event.key_hash, event.model) for kind, ids in members.items() for id in ids),
        ]
        members["team"] = {event.team_id or ""} - {""}
        for kind, ids in members.items():
            # Sums without keys: of each one, and of every call that has one.
            names += [(kind, id, day, "", event.model) for id in (*ids, *([""] if ids else []))]
        for name in names:
            sums[name] += event.cost  # type: ignore[assignment]
        sums["calls", day, event.key_hash, event.model] += 1
    return {name: Decimal(sum) for name, sum in sums.items()}


async def written(database: Database) -> Sums:
    """The same totals, as the database has them."""
    sums: Sums = {}
    with database.active():
        sums["logs",] = sum((row.spend for row in await SpendLog.all()), Decimal(0))
        for key in await VirtualKey.all():
            assert key.spend == key.total_spend
            sums["key", key.token] = key.spend
        sums.update({("user", row.user_id): row.spend for row in await User.all()})
        sums.update({("team", row.team_id): row.spend for row in await Team.all()})
        for row in await TeamMembership.all():
            assert row.spend == row.total_spend
            sums["member", member_id(row.team_id, row.user_id)] = row.spend
        sums.update({("organization", row.organization_id): row.spend for row in await Organization.all()})
        for member in await OrganizationMembership.all():
            sums["organization member", member.organization_id, member.user_id] = member.spend
        sums.update({("end_user", row.user_id): row.spend for row in await EndUser.all()})
        sums.update({("tag", row.tag_name): row.spend for row in await Tag.all()})
        sums.update({("access_group", row.access_group): row.spend for row in await ModelAccessGroupBudget.all()})
        sums.update({("window", row.id): row.spend for row in await BudgetWindow.all()})
        for day in await DailySpend.all():
            sums["day", day.date, day.api_key, day.model] = day.spend
            sums["calls", day.date, day.api_key, day.model] = Decimal(day.api_requests)
        for part in await DailyEntitySpend.all():
            sums[part.kind, part.entity_id, part.date, part.api_key, part.model] = part.spend
    return {name: sum for name, sum in sums.items() if sum}
