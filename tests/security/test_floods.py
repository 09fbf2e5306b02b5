"""Floods of sign-ins: they are turned away at once, and who else signs in does not wait behind them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.auth.instance import bearer, client_of, serving
from tests.conftest import MASTER_KEY
from tests.llm.live_worker import FAST
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.services.run_directory import RunDirectory

ALICE = {"username": "alice@example.com", "password": "the password of alice"}
ADMIN = {"username": "admin", "password": MASTER_KEY}
FLOOD = 60
# Behind a queue without bounds it was a minute; the machine may be busy with other tests.
TIMEOUT_SECONDS = 8.0


def client_at(served: QuarterdeckProcess, address: str) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(local_address=address)
    return httpx.AsyncClient(base_url=served.url, transport=transport, timeout=60, trust_env=False)


@pytest.fixture(scope="module")
def served(run_directory: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuarterdeckProcess]:
    factory = QuarterdeckFactory(run_directory, tmp_path_factory.mktemp("floods"), MASTER_KEY)
    try:
        process = factory({}, env=FAST)
        user = {"user_id": "alice", "user_email": ALICE["username"], "user_role": "internal_user"}
        with httpx.Client(base_url=process.url, headers=bearer(MASTER_KEY), trust_env=False) as admin:
            admin.post("/user/new", json=user).raise_for_status()
            admin.post("/user/update", json={"user_id": "alice", "password": ALICE["password"]}).raise_for_status()
        yield process
    finally:
        factory.close()


@asynccontextmanager
async def flooded(served: QuarterdeckProcess, path: str, field: str) -> AsyncIterator[Counter[int]]:
    """Sixty connections that guess without a pause, each under a name of its own; how they were answered."""
    answers: Counter[int] = Counter()

    async def guess(http: httpx.AsyncClient, number: int) -> None:
        count = 0
        while True:
            proof = {"username": f"nobody-{number}-{count}@example.com", "password": "guess"}
            answer = await http.post(path, **{field: proof})  # type: ignore[arg-type]
            answers[answer.status_code] += 1
            count += 1
            if answer.status_code == 429:
                await asyncio.sleep(float(answer.headers["Retry-After"]))

    async with client_at(served, "127.0.0.1") as http:
        flood = [asyncio.create_task(guess(http, number)) for number in range(FLOOD)]
        try:
            async with asyncio.timeout(10):
                while answers[429] < FLOOD / 3:
                    await asyncio.sleep(0.02)
            yield answers
        finally:
            for task in flood:
                task.cancel()
            await asyncio.gather(*flood, return_exceptions=True)


async def seconds_to_sign_in(
    http: httpx.AsyncClient, path: str, field: str, proof: dict[str, str], right: int
) -> float:
    started = time.monotonic()
    answer = await http.post(path, **{field: proof})  # type: ignore[arg-type]
    assert answer.status_code == right, answer.text[:300]
    return time.monotonic() - started


@pytest.mark.parametrize(
    ("path", "field", "right"), [("/v2/login", "json", 200), ("/login", "data", 303), ("/ui/login", "data", 303)]
)
async def test_a_flood_from_one_address_delays_nobody_at_another(
    served: QuarterdeckProcess, path: str, field: str, right: int
) -> None:
    async with flooded(served, path, field) as answers, client_at(served, "127.0.0.2") as http:
        for _ in range(3):
            assert await seconds_to_sign_in(http, path, field, ALICE, right) < TIMEOUT_SECONDS
    assert answers[429] >= FLOOD / 3
    assert set(answers) <= {401, 429}


async def test_the_admin_signs_in_during_a_flood_from_the_same_address(served: QuarterdeckProcess) -> None:
    async with flooded(served, "/v2/login", "json"), client_at(served, "127.0.0.1") as http:
        for _ in range(3):
            assert await seconds_to_sign_in(http, "/v2/login", "json", ADMIN, 200) < TIMEOUT_SECONDS


async def test_calls_go_on_during_a_flood(served: QuarterdeckProcess) -> None:
    async with flooded(served, "/v2/login", "json"), client_at(served, "127.0.0.1") as http:
        started = time.monotonic()
        for _ in range(5):
            assert (await http.get("/v1/models", headers=bearer(MASTER_KEY))).status_code == 200
        assert time.monotonic() - started < TIMEOUT_SECONDS


@pytest.mark.parametrize("address", ["203.0.113.7", "2001:db8::7"])
async def test_guesses_from_a_public_address_are_counted_whatever_names_they_try(
    migrated_sqlite_url: str, tmp_path: Path, address: str
) -> None:
    async with (
        serving(migrated_sqlite_url, state_dir=tmp_path) as instance,
        client_of(instance.app, address) as stranger,
        client_of(instance.app, "198.51.100.1") as elsewhere,
    ):
        statuses = [
            (await stranger.post("/v2/login", json={"username": f"name-{number}", "password": "guess"})).status_code
            for number in range(14)
        ]
        assert statuses == [401] * 11 + [429] * 3
        assert (await stranger.post("/v2/login", json=ADMIN)).status_code == 429
        assert (await elsewhere.post("/v2/login", json=ADMIN)).status_code == 200
