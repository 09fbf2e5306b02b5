"""Guessing passwords is slow: per source and user name, per source, in memory and in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from app.auth.login_throttle import LoginThrottle
from app.backends import open_cache
from app.errors import TooManyRequests
from app.settings import Settings
from app.storage.cache import Cache, MemoryCache
from tests.auth.instance import ADMIN, Instance, client_of

SETTINGS = Settings(failed_login_limit=10, failed_login_window=60, failed_login_block=300)
DIRECT = replace(SETTINGS, trusted_proxy_ranges=())
HERE = "203.0.113.7"
# What a platform's router, a container network or a console may call from.
SHARED = ["10.0.0.1", "172.17.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "::ffff:10.0.0.1", "127.0.0.1", None]


@pytest.fixture(params=["memory", "redis"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None
    opened = open_cache(url)
    yield opened
    await opened.close()


async def failures_until_blocked(throttle: LoginThrottle, address: str | None, username: str, limit: int = 30) -> int:
    for count in range(limit):
        if await seconds_blocked(throttle, address, username):
            return count
        await throttle.count_failure(address, username)
    return limit


async def seconds_blocked(throttle: LoginThrottle, address: str | None, username: str) -> int:
    """What Retry-After says; 0 when the caller may try."""
    try:
        await throttle.refuse_blocked(address, username)
    except TooManyRequests as refusal:
        assert (refusal.status, refusal.type, refusal.param) == (429, "auth_error", "username")
        return int(refusal.headers["Retry-After"])
    return 0


async def test_six_wrong_passwords_of_one_name_block_the_pair(cache: Cache) -> None:
    throttle = LoginThrottle(SETTINGS, cache)
    assert await failures_until_blocked(throttle, HERE, "alice") == 6
    assert 295 <= await seconds_blocked(throttle, HERE, "ALICE") <= 300
    assert not await seconds_blocked(throttle, HERE, "bob")
    assert not await seconds_blocked(throttle, "203.0.113.8", "alice")


@pytest.mark.parametrize("address", SHARED)
async def test_many_names_do_not_shut_out_who_may_share_a_proxy(address: str | None) -> None:
    for is_console in (False, True):
        throttle = LoginThrottle(SETTINGS, MemoryCache(), is_console=is_console)
        for number in range(30):
            await throttle.count_failure(address, f"user-{number}")
        assert not await seconds_blocked(throttle, address, "alice")


@pytest.mark.parametrize(
    ("settings", "address"), [(SETTINGS, HERE), (SETTINGS, "2001:db8::1"), (DIRECT, HERE), (DIRECT, "192.168.1.1")]
)
async def test_many_names_block_a_source_that_is_a_persons_address(
    cache: Cache, settings: Settings, address: str
) -> None:
    throttle = LoginThrottle(settings, cache, is_console=True)
    for number in range(10):
        assert not await seconds_blocked(throttle, address, f"user-{number}")
        await throttle.count_failure(address, f"user-{number}")
    assert await seconds_blocked(throttle, address, "somebody else")
    assert not await seconds_blocked(throttle, "203.0.113.8", "somebody else")


async def test_strangers_at_a_console_do_not_shut_it_out_of_a_worker() -> None:
    throttle = LoginThrottle(SETTINGS, MemoryCache())
    for number in range(30):
        await throttle.count_failure(HERE, f"user-{number}", via_console=True)
    assert not await seconds_blocked(throttle, HERE, "alice")


async def test_the_console_stops_a_stranger_before_the_worker_shuts_out_everyone(cache: Cache) -> None:
    console, worker = LoginThrottle(SETTINGS, cache, is_console=True), LoginThrottle(SETTINGS, cache)
    tries = 0
    while not await seconds_blocked(console, HERE, "worker-a admin"):
        tries += 1
        await worker.count_failure("10.0.0.1", "admin")
        await console.count_failure(HERE, "worker-a admin")
    assert tries == 5
    assert not await seconds_blocked(worker, "10.0.0.1", "admin")


async def test_a_right_password_clears_the_pair_but_not_the_source(cache: Cache) -> None:
    throttle = LoginThrottle(DIRECT, cache, is_console=True)
    for _ in range(2):
        for _ in range(4):
            await throttle.count_failure(HERE, "alice")
        await throttle.forget(HERE, "alice")
    assert not await seconds_blocked(throttle, HERE, "alice")
    for _ in range(2):
        await throttle.count_failure(HERE, "bob")
    assert await seconds_blocked(throttle, HERE, "alice")


async def test_the_window_ends_whatever_happens_in_it(cache: Cache) -> None:
    throttle = LoginThrottle(replace(SETTINGS, failed_login_window=1, failed_login_block=1), cache)
    for _ in range(5):
        await throttle.count_failure(HERE, "alice")
    await asyncio.sleep(1.1)
    assert await failures_until_blocked(throttle, HERE, "alice") == 6
    await asyncio.sleep(1.1)
    assert not await seconds_blocked(throttle, HERE, "alice")


@pytest.mark.parametrize(
    ("first", "second", "is_one_source"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:203.0.113.7", "203.0.113.7", True),
        (None, "not an address", True),
    ],
)
async def test_an_ipv6_network_is_one_source(first: str | None, second: str | None, is_one_source: bool) -> None:
    throttle = LoginThrottle(SETTINGS, MemoryCache())
    await failures_until_blocked(throttle, first, "alice")
    assert bool(await seconds_blocked(throttle, second, "alice")) is is_one_source


async def test_what_redis_keeps_names_nobody_and_ends(redis_url: str) -> None:
    cache = open_cache(redis_url)
    await failures_until_blocked(LoginThrottle(SETTINGS, cache), HERE, "alice@example.com")
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        names = await client.keys("*")
        assert names
        assert not [name for name in names if "alice" in name]
        assert all([0 < await client.ttl(name) <= 300 for name in names])
    await cache.close()


async def test_two_processes_count_together_in_redis(redis_url: str) -> None:
    caches = [open_cache(redis_url), open_cache(redis_url)]
    throttles = [LoginThrottle(SETTINGS, cache) for cache in caches]
    for number in range(6):
        await throttles[number % 2].count_failure(HERE, "alice")
    assert [bool(await seconds_blocked(throttle, HERE, "alice")) for throttle in throttles] == [True, True]
    for cache in caches:
        await cache.close()


async def test_without_redis_each_process_counts_for_itself(free_port: int) -> None:
    cache = open_cache(f"redis://127.0.0.1:{free_port}/0")
    throttle = LoginThrottle(SETTINGS, cache)
    assert await failures_until_blocked(throttle, HERE, "alice") == 6
    await throttle.forget(HERE, "alice")
    await cache.close()


# ---- over HTTP -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v2/login", "/v3/login"])
async def test_the_seventh_wrong_try_waits(worker: Instance, path: str) -> None:
    wrong = {"username": "admin", "password": "guess"}
    assert [(await worker.http.post(path, json=wrong)).status_code for _ in range(6)] == [401] * 6
    refused = await worker.http.post(path, json=wrong)
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "300"
    assert refused.json()["error"] == {
        "message": "Too many failed sign-in attempts. Try again later.",
        "type": "auth_error",
        "param": "username",
        "code": "429",
    }


async def test_a_right_password_waits_as_well_on_every_sign_in_route(worker: Instance) -> None:
    for _ in range(6):
        await worker.http.post("/v2/login", json={**ADMIN, "password": "guess"})
    for path in ("/v2/login", "/v3/login"):
        assert (await worker.http.post(path, json=ADMIN)).status_code == 429
    page = await worker.http.post("/login", data=ADMIN)
    assert page.status_code == 429
    assert page.headers["Retry-After"] == "300"
    assert page.headers["Content-Type"].startswith("text/html")
    async with client_of(worker.app, "198.51.100.1") as elsewhere:
        assert (await elsewhere.post("/v2/login", json=ADMIN)).status_code == 200


async def test_the_master_key_over_the_api_never_waits(worker: Instance) -> None:
    for _ in range(12):
        await worker.http.post("/v2/login", json={**ADMIN, "password": "guess"})
    answer = await worker.http.get("/v1/models", headers={"Authorization": f"Bearer {ADMIN['password']}"})
    assert answer.status_code == 200


async def test_guesses_that_come_all_at_once_are_not_all_looked_at(worker: Instance) -> None:
    guesses = [{**ADMIN, "password": f"guess-{number}"} for number in range(30)] + [dict(ADMIN)]
    answers = await asyncio.gather(*(worker.http.post("/v2/login", json=guess) for guess in guesses))
    assert [answer.status_code for answer in answers] == [401] * 6 + [429] * 25
