"""One process of a storm: it records calls of a few shared keys as fast as it is told and flushes them all the time.

    python -m tests.spend.storm DATABASE_URL STATE_DIR NAME SECONDS RATE

The n-th call of a process follows from its name and n alone, so that the sums can be known without asking it. It notes
after each burst how many calls it has recorded, in STATE_DIR/NAME.count.
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

from app.settings import Settings
from app.spend.events import SpendEvent, SpendWindow
from app.spend.ledger import SpendLedger
from app.storage.database import Database

KEYS = 20
STARTED = datetime(2026, 11, 21, 23, 59, tzinfo=UTC)  # fixed date: when calls began; nothing here is of today
_BURST_SECONDS = 0.02


def key_of(number: int) -> str:
    return f"{number:064x}"


def call(name: str, number: int) -> SpendEvent:
    """The `number`-th call of process `name`: its key, its cost and the rest are drawn from a hash of both."""
    draw = sha256(f"{name}/{number}".encode()).digest()
    key = draw[0] % KEYS
    started = STARTED + timedelta(seconds=draw[1])
    team = f"team-{key % 4}"
    return SpendEvent(
        request_id=f"{name}-{number}",
        call_type="acompletion",
        endpoint="/chat/completions",
        start_time=started,
        end_time=started + timedelta(milliseconds=draw[2]),
        cost=Decimal(int.from_bytes(draw[3:8])).scaleb(-12),
        prompt_tokens=draw[8],
        completion_tokens=draw[9],
        key_hash=key_of(key),
        user_id=f"user-{key % 5}",
        team_id=team,
        organization_id=f"org-{key % 2}",
        model=f"model-{draw[10] % 3}",
        model_group="chat",
        provider="openai",
        end_user=f"customer-{draw[11] % 30}" if draw[12] % 2 else "",
        tags=[f"tag-{draw[13] % 6}", f"tag-{draw[14] % 6}"],
        access_groups=["fast"] if draw[15] % 2 else [],
        windows=[SpendWindow("team", team, "", "1d", STARTED)],
        status="success" if draw[16] % 8 else "failure",
    )


async def run_load(url: str, state_dir: Path, name: str, seconds: float, rate: int) -> None:
    """Record and flush for so long, then stop as an instance does: with nothing left behind."""
    settings = Settings(database_url=url, state_dir=state_dir, spend_flush_seconds=0.02)
    database = Database(settings)
    await database.open()
    ledger = SpendLedger(settings, database)
    await ledger.start()
    count, started = 0, time.monotonic()
    noted = state_dir / f"{name}.count"
    while (elapsed := time.monotonic() - started) < seconds:
        while count < elapsed * rate:
            ledger.record(call(name, count))
            count += 1
        fresh = noted.with_suffix(".new")
        fresh.write_text(str(count))
        fresh.replace(noted)  # whole, whenever this process is killed
        await asyncio.sleep(_BURST_SECONDS)
    await ledger.stop()
    await database.close()


if __name__ == "__main__":
    asyncio.run(run_load(sys.argv[1], Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]), int(sys.argv[5])))
