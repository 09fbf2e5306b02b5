"""`python -m bench.scale`: fill a PostgreSQL with a large fleet, measure the lists that people open, show their plans.

    python -m bench.scale --keys 1000000 --rows 10000000 --database-url postgres://postgres@127.0.0.1:5432/scale

The database must be there, and it is emptied (`--keep` measures what is in it). Times are those of a whole request in
this process, from the ASGI app to the last byte of JSON, without a socket; plans are those of the very statements.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import platform
import re
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from app import create_app
from app.server.asgi import spare_what_stays
from app.settings import Settings
from app.storage.database import Database

from .scale_data import DAYS, fill

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
HEADING = "## Lists at scale"
MASTER_KEY = "sk-master-key-of-the-benchmark-0123456789"
RUNS = 9
TARGET_MS = 50.0
_LARGE = ("virtual_key", "user_account", "spend_log", "daily_spend", "daily_entity_spend")
_SCAN = re.compile(r"(\w[\w ]* Scan(?: Backward)?(?: using \w+)? on \w+)")


@dataclass(slots=True)
class Result:
    name: str
    milliseconds: list[float]
    cpu: list[float]
    kilobytes: float
    plans: list[str]

    @property
    def median(self) -> float:
        return statistics.median(self.milliseconds)


class Statements(logging.Handler):
    """Collects what the ORM sends: (SQL, parameters)."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.seen: list[tuple[str, list[Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, tuple) and len(record.args) == 2 and str(record.args[0]).startswith("SELECT"):
            values = record.args[1]
            self.seen.append((str(record.args[0]), list(values) if isinstance(values, (list, tuple)) else []))


def requests_of(key: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """What is measured: a name, a path and its query. `key` is a hash of a busy key."""
    today = datetime.now(UTC).date()
    month = {"start_date": str(today - timedelta(days=DAYS - 1)), "end_date": str(today)}
    keys = {"size": 50, "return_full_object": "true"}
    table = "/spend/logs/ui"
    return {
        "key list": ("/key/list", keys),
        "key list, part of an alias": ("/key/list", {**keys, "key_alias": "billing-4f", "substring_matching": "true"}),
        "key list, search": ("/key/list", {**keys, "search": "4f3a"}),
        "key list, of a user": ("/key/list", {**keys, "user_id": "user-77"}),
        "key list, of a team": ("/key/list", {**keys, "team_id": "team-20"}),
        "key list, active": ("/key/list", {**keys, "status": "active"}),
        "key list, expired": ("/key/list", {**keys, "status": "expired"}),
        "key list, blocked": ("/key/list", {**keys, "status": "revoked"}),
        "key list, by spend": ("/key/list", {**keys, "sort_by": "spend"}),
        "key aliases, search": ("/key/aliases", {"search": "search-00"}),
        "key info": ("/key/info", {"key": key}),
        "user list": ("/user/list", {}),
        "user list, part of an address": ("/user/list", {"user_email": "ser-4711"}),
        "user activity, 30 days": ("/user/daily/activity", month),
        "user activity, aggregated": ("/user/daily/activity/aggregated", month),
        "user activity, one user": ("/user/daily/activity", {**month, "user_id": "user-77"}),
        "user activity, one key": ("/user/daily/activity", {**month, "api_key": key}),
        "user activity, keys": ("/user/daily/activity/aggregated/keys", month),
        "user activity, keys of models": ("/user/daily/activity/aggregated/model_top_keys", month),
        "team activity, 30 days": ("/team/daily/activity", {**month, "page_size": 30}),
        "team activity, one team": ("/team/daily/activity", {**month, "page_size": 30, "team_ids": "team-20"}),
        "tag activity, aggregated": ("/tag/daily/activity/aggregated", month),
        "end user activity, aggregated": ("/customer/daily/activity/aggregated", month),
        "organization activity": ("/organization/daily/activity", {**month, "page_size": 30}),
        "spend logs, newest": (table, month),
        "spend logs, by session": (table, {**month, "group_by_session": "true"}),
        "spend logs, of a key": (table, {**month, "api_key": key}),
        "spend logs, of a user": (table, {**month, "user_id": "user-77"}),
        "spend logs, failures": (table, {**month, "status_filter": "failure"}),
        "spend logs, error 429": (table, {**month, "error_code": "429"}),
        "spend logs, of a model": (table, {**month, "model": "gpt-4"}),
        "spend logs, dear ones": (table, {**month, "min_spend": "0.0155"}),
        "spend logs, by spend": (table, {**month, "sort_by": "spend"}),
        "spend per day": ("/spend/logs", month),
        "global spend, keys": ("/global/spend/keys", {"limit": 20}),
        "global spend, teams": ("/global/spend/teams", {}),
        "global activity": ("/global/activity", month),
        "gateway activity": ("/gateway/daily/activity", month),
    }


async def measure(url: str, only: str = "") -> list[Result]:
    """Every request, warm, one after the other."""
    statements = Statements()
    logger = logging.getLogger("tortoise.db_client")
    connection = await asyncpg.connect(url)
    key = await connection.fetchval("SELECT token FROM virtual_key ORDER BY spend DESC OFFSET 20 LIMIT 1")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(master_key=MASTER_KEY, database_url=url, state_dir=Path(folder)))
        async with app.test_app():
            # As a server does at start: a look through everything that was imported is no part of a request.
            spare_what_stays()
            transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
            headers = {"Authorization": f"Bearer {MASTER_KEY}"}
            async with httpx.AsyncClient(transport=transport, base_url="http://worker", headers=headers) as client:
                chosen = {name: asked for name, asked in requests_of(key).items() if only in name}
                for name, (path, query) in chosen.items():
                    results.append(await _measured(client, name, path, query, statements, logger, connection))
                    print(_line(results[-1]), flush=True)
    await connection.close()
    return results


async def _measured(
    client: httpx.AsyncClient,
    name: str,
    path: str,
    query: dict[str, Any],
    statements: Statements,
    logger: logging.Logger,
    connection: asyncpg.Connection,
) -> Result:
    statements.seen.clear()
    logger.addHandler(statements)
    logger.setLevel(logging.DEBUG)
    answer = await client.get(path, params=query)
    logger.removeHandler(statements)
    logger.setLevel(logging.WARNING)
    if answer.status_code != 200:
        raise SystemExit(f"{name}: {answer.status_code} {answer.text[:500]}")
    plans = [plan for sql, values in statements.seen if (plan := await _plan(connection, sql, values))]
    times, cpu = [], []
    for _ in range(RUNS + 2):
        started, used = time.perf_counter(), time.process_time()
        await client.get(path, params=query)
        times.append((time.perf_counter() - started) * 1000)
        cpu.append((time.process_time() - used) * 1000)
    return Result(name, times[2:], cpu[2:], len(answer.content) / 1024, plans)


async def _plan(connection: asyncpg.Connection, sql: str, values: list[Any]) -> str:
    """One line: how long, and how each table was read. Empty for tables that are small."""
    rows = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {sql}", *values)
    lines = [str(row[0]) for row in rows]
    took = next((line.split(":")[1].strip() for line in lines if line.startswith("Execution Time")), "")
    scans = [found[1].strip() for line in lines if (found := _SCAN.search(line))]
    scans = [scan for scan in scans if scan.rpartition(" ")[2] in _LARGE or scan.startswith("Bitmap Index")]
    return f"{took}: {', '.join(dict.fromkeys(scans))}" if scans else ""


def _line(result: Result) -> str:
    slow = "" if result.median <= TARGET_MS else "  <- over 50 ms"
    reads_all = "  <- seq scan" if any("Seq Scan" in plan for plan in result.plans) else ""
    return (
        f"{result.name:<36}{min(result.milliseconds):8.1f}{result.median:8.1f}{max(result.milliseconds):8.1f} ms"
        f"{min(result.cpu):8.1f} cpu{result.kilobytes:9.1f} KB{slow}{reads_all}"
    )


async def _section(url: str, results: list[Result], arguments: argparse.Namespace) -> str:
    connection = await asyncpg.connect(url)
    version = await connection.fetchval("SHOW server_version")
    counts = {
        table: await connection.fetchval(f"SELECT COUNT(*) FROM {table}")
        for table in ("virtual_key", "user_account", "team", "spend_log", "daily_spend", "daily_entity_spend")
    }
    size = await connection.fetchval("SELECT pg_size_pretty(pg_database_size(current_database()))")
    await connection.close()
    lines = [
        HEADING,
        "",
        f"Measured {datetime.now(UTC):%Y-%m-%d} on {platform.machine()}, Python {platform.python_version()}, "
        f"PostgreSQL {version} ({size}), two cores shared with the database and with other work, by",
        "",
        f"    python -m bench.scale --keys {arguments.keys} --rows {arguments.rows} --database-url postgres://…/scale",
        "",
        "Rows: " + ", ".join(f"{table} {number:,}" for table, number in counts.items()) + ".",
        f"Server time of a whole request as admin, warm, {RUNS} runs one after the other; the target is 50 ms.",
        "CPU is that of the gateway's process in the fastest run; the rest is the database, and waiting for a core.",
        "",
        "| Request | fastest ms | median ms | slowest ms | of it CPU here | answer KB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for result in results:
        slowest, cpu = max(result.milliseconds), min(result.cpu)
        times = f"{min(result.milliseconds):.1f} | {result.median:.1f} | {slowest:.1f} | {cpu:.1f}"
        lines.append(f"| {result.name} | {times} | {result.kilobytes:.1f} |")
    lines += ["", "How the large tables were read (`EXPLAIN ANALYZE` of each statement, its time and its scans):", ""]
    for result in results:
        lines.append(f"- **{result.name}**")
        lines.extend(f"  - {plan}" for plan in dict.fromkeys(result.plans))
    return "\n".join([*lines, ""])


def _write(section: str) -> None:
    """Put the section in the place of the one that is there."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else "# Performance\n\n"
    before, found, rest = page.partition(HEADING)
    following = re.search(r"^## ", rest, re.MULTILINE) if found else None
    after = rest[following.start() :] if following else ""
    PAGE.write_text(before.rstrip() + "\n\n" + section + ("\n" + after if after else ""), encoding="utf-8")


async def main(arguments: argparse.Namespace) -> int:
    """0 when every median is within the target."""
    url = arguments.database_url
    if not arguments.keep:
        database = Database(Settings(database_url=url))
        await database.open()
        await database.migrate()
        await database.close()
        await fill(url, arguments.keys, arguments.rows)
    results = await measure(url, arguments.only)
    if not arguments.only:
        _write(await _section(url, results, arguments))
    return int(any(result.median > TARGET_MS for result in results))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--only", default="", help="measure the requests with this in their names, write nothing")
    parser.add_argument("--keep", action="store_true", help="measure what the database holds")
    sys.exit(asyncio.run(main(parser.parse_args())))
