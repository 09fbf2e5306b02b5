"""A code is exchanged once, whoever asks, whichever process answers, with Redis and without."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from app.auth.login_codes import LoginCodes
from app.backends import open_cache
from app.models import LoginCode
from app.security.credentials import hash_key
from app.settings import Settings
from app.storage.cache import CacheAway, MemoryCache
from app.storage.database import Database
from tests.auth.instance import CONSOLE
from tests.conftest import MASTER_KEY
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess

_ADMIN = {"username": "admin", "password": MASTER_KEY}
_CONFIG = {"general_settings": {"control_plane_url": CONSOLE}}
_PAYLOAD = {"token": "t", "redirect_url": "u", "challenge": None}


async def exchange_at_once(code: str, workers: list[QuarterdeckProcess], times: int) -> Counter[int]:
    """Statuses of `times` exchanges of one code, sent at once and spread over the workers."""
    limits = httpx.Limits(max_connections=times)
    async with httpx.AsyncClient(limits=limits, timeout=30) as http:
        for worker in workers:  # so that all of them are busy from the first moment on
            await http.get(f"{worker.url}/health/liveliness")
        answers = await asyncio.gather(
            *(
                http.post(f"{workers[number % len(workers)].url}/v3/login/exchange", json={"code": code})
                for number in range(times)
            )
        )
    return Counter(answer.status_code for answer in answers)


def new_code(worker: QuarterdeckProcess) -> str:
    answer = httpx.post(f"{worker.url}/v3/login", json=_ADMIN)
    assert answer.status_code == 200, answer.text
    code: str = answer.json()["code"]
    return code


@pytest.mark.parametrize("cache", ["no redis", "redis", "redis away"])
async def test_one_of_a_hundred_exchanges_wins_over_two_processes(
    cache: str,
    request: pytest.FixtureRequest,
    quarterdeck_process: QuarterdeckFactory,
    migrated_postgres_url: str,
    free_port: int,
) -> None:
    env = {}
    if cache == "redis":
        env["REDIS_URL"] = request.getfixturevalue("redis_url")
    if cache == "redis away":
        env["REDIS_URL"] = f"redis://127.0.0.1:{free_port}/0"
    workers = [quarterdeck_process(_CONFIG, database_url=migrated_postgres_url, env=env) for _ in range(2)]
    for issuer in workers:
        assert await exchange_at_once(new_code(issuer), workers, 100) == {200: 1, 401: 99}


async def test_one_of_a_hundred_exchanges_wins_on_sqlite(quarterdeck_process: QuarterdeckFactory) -> None:
    worker = quarterdeck_process(_CONFIG)
    assert await exchange_at_once(new_code(worker), [worker], 100) == {200: 1, 401: 99}


# ---- what is kept --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def codes_of(database_url: str, redis_url: str | None = None) -> AsyncIterator[tuple[LoginCodes, Database]]:
    database, cache = Database(Settings(database_url=database_url)), open_cache(redis_url)
    await database.open()
    with database.active():
        yield LoginCodes(cache, database, "salt"), database
    await cache.close()
    await database.close()


async def test_the_payload_comes_back_once(database_url: str) -> None:
    async with codes_of(database_url) as (codes, _):
        code = await codes.issue(_PAYLOAD)
        assert await codes.take(code) == _PAYLOAD
        assert await codes.take(code) is None
        assert await codes.take("never issued") is None


async def test_a_code_ends_after_a_minute(database_url: str) -> None:
    async with codes_of(database_url) as (codes, _):
        code = await codes.issue(_PAYLOAD)
        row = await LoginCode.get(code_hash=hash_key(code))
        assert timedelta(seconds=55) < row.expires_at - datetime.now(UTC) <= timedelta(seconds=60)
        row.expires_at = datetime.now(UTC) - timedelta(milliseconds=1)
        await row.save()
        assert await codes.take(code) is None


async def test_ended_codes_are_swept_with_the_next_one(database_url: str) -> None:
    async with codes_of(database_url) as (codes, _):
        await codes.issue(_PAYLOAD)
        await LoginCode.all().update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
        await codes.issue(_PAYLOAD)
        assert await LoginCode.all().count() == 1


async def test_the_database_holds_neither_code_nor_token(migrated_sqlite_url: str) -> None:
    async with codes_of(migrated_sqlite_url) as (codes, _):
        code = await codes.issue({"token": "the-session-token"})
    content = Path(migrated_sqlite_url.removeprefix("sqlite:///")).read_bytes()
    assert code.encode() not in content
    assert b"the-session-token" not in content


async def test_redis_holds_a_code_for_a_minute_and_not_as_it_is(migrated_sqlite_url: str, redis_url: str) -> None:
    async with (
        codes_of(migrated_sqlite_url, redis_url) as (codes, _),
        Redis.from_url(redis_url, decode_responses=True) as client,
    ):
        code = await codes.issue({"token": "the-session-token"})
        assert await LoginCode.all().count() == 0
        (name,) = await client.keys("*")
        assert code not in name
        assert "the-session-token" not in str(await client.get(name))
        assert 55_000 < await client.pttl(name) <= 60_000
        assert await codes.take(code) == {"token": "the-session-token"}
        assert await client.keys("*") == []


async def test_a_code_of_the_time_without_redis_is_found_when_redis_is_back(
    migrated_sqlite_url: str, redis_url: str, free_port: int
) -> None:
    async with codes_of(migrated_sqlite_url, f"redis://127.0.0.1:{free_port}/0") as (away, _):
        code = await away.issue(_PAYLOAD)
    async with codes_of(migrated_sqlite_url, redis_url) as (codes, _):
        assert await codes.take(code) == _PAYLOAD
        assert await codes.take(code) is None


async def test_a_code_of_another_salt_key_is_worth_nothing(migrated_sqlite_url: str) -> None:
    async with codes_of(migrated_sqlite_url) as (codes, database):
        code = await codes.issue(_PAYLOAD)
        other = LoginCodes(open_cache(None), database, "another salt")
        assert await other.take(code) is None


async def test_a_hundred_takes_at_once_through_redis_find_it_once(migrated_sqlite_url: str, redis_url: str) -> None:
    """More takes than connections: those that wait for one do not take Redis for away."""
    async with codes_of(migrated_sqlite_url, redis_url) as (codes, _):
        issued = [await codes.issue({"number": number}) for number in range(100)]
        taken = await asyncio.gather(*(codes.take(code) for code in issued))
        assert taken == [{"number": number} for number in range(100)]


async def test_a_code_that_redis_may_have_kept_is_not_stored_a_second_time(migrated_sqlite_url: str) -> None:
    class LateCache(MemoryCache):
        """Keeps what it was given and answers too late, as a Redis that is slow for a moment."""

        is_shared = True

        async def set(self, key: str, value: str, ttl_seconds: float) -> None:
            await super().set(key, value, ttl_seconds)
            raise CacheAway("TimeoutError")

    database = Database(Settings(database_url=migrated_sqlite_url))
    await database.open()
    with database.active():
        codes = LoginCodes(LateCache(), database, "salt")
        code = await codes.issue(_PAYLOAD)
        assert [await codes.take(code), await codes.take(code)] == [_PAYLOAD, None]
    await database.close()
