"""Keys in memory: no call on a known key waits for the database, and none is turned away because it is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.auth.principal import Principal
from app.auth.roles import Role
from app.errors import GatewayError, KeyNotFound, ServiceUnavailable, Unauthenticated
from app.models import DeprecatedKey, Team, User, VirtualKey
from app.security.credentials import hash_key
from tests.auth.instance import Instance, bearer, serving
from tests.conftest import MASTER_KEY
from tests.tcp_proxy import TcpProxy

KEY = "sk-alice-0123456789"


async def new_key(instance: Instance, key: str = KEY, **fields: Any) -> None:
    with instance.services.database.active():
        await VirtualKey.create(token=hash_key(key), key_name=f"sk-...{key[-4:]}", **fields)


@asynccontextmanager
async def behind_proxy(url: str, state_dir: Path, **settings: Any) -> AsyncIterator[tuple[Instance, TcpProxy]]:
    """An instance whose PostgreSQL a test can take away."""
    parts = urlsplit(url)
    async with TcpProxy("127.0.0.1", parts.port or 5432) as proxy:
        through = parts._replace(netloc=f"postgres@127.0.0.1:{proxy.port}").geturl()
        async with serving(through, state_dir=state_dir, **settings) as instance:
            yield instance, proxy


def take_away(proxy: TcpProxy) -> None:
    proxy.refuse()
    proxy.cut()


async def error_of(instance: Instance, key: str) -> GatewayError:
    with pytest.raises(GatewayError) as refused:
        await instance.services.keys.principal_of(key)
    return refused.value


async def test_the_master_key_is_the_admin_without_a_database(worker: Instance) -> None:
    principal = await worker.services.keys.principal_of(MASTER_KEY)
    assert principal.is_admin
    assert principal.user_id == "default_user_id"


async def test_a_key_brings_its_user_and_team(worker: Instance) -> None:
    with worker.services.database.active():
        await User.create(user_id="alice", user_role="internal_user", models=["a"])
        await Team.create(team_id="crew", team_alias="Crew", models=["b"], blocked=True)
    await new_key(worker, user_id="alice", team_id="crew", models=["c"], allowed_routes=["/x"], key_alias="alias")
    principal = await worker.services.keys.principal_of(KEY)
    assert (principal.role, principal.user_id, principal.team_alias) == (Role.INTERNAL_USER, "alice", "Crew")
    assert (principal.models, principal.team_models, principal.user_models) == (("c",), ("b",), ())
    assert principal.is_team_blocked
    assert principal.allowed_routes == ("/x",)
    assert (principal.key_alias, principal.key_name) == ("alias", "sk-...6789")


async def test_a_key_without_a_user_has_a_role_of_its_own(worker: Instance) -> None:
    await new_key(worker)
    assert (await worker.services.keys.principal_of(KEY)).role is Role.KEY_ONLY


async def test_a_known_key_is_read_from_memory(worker: Instance) -> None:
    await new_key(worker)
    first = await worker.services.keys.principal_of(KEY)
    with worker.services.database.active():
        await VirtualKey.filter(token=hash_key(KEY)).update(blocked=True)
    assert await worker.services.keys.principal_of(KEY) is first
    worker.services.keys.forget(hash_key(KEY))
    assert (await worker.services.keys.principal_of(KEY)).is_blocked


async def test_a_change_of_user_or_team_is_seen_at_once(worker: Instance) -> None:
    with worker.services.database.active():
        await User.create(user_id="alice", user_role="internal_user")
        await Team.create(team_id="crew")
    await new_key(worker, user_id="alice", team_id="crew")
    keys = worker.services.keys
    await keys.principal_of(KEY)
    with worker.services.database.active():
        await User.filter(user_id="alice").update(user_role="proxy_admin")
        await Team.filter(team_id="crew").update(blocked=True)
    keys.forget_user("bob")
    assert (await keys.principal_of(KEY)).role is Role.INTERNAL_USER
    keys.forget_user("alice")
    assert (await keys.principal_of(KEY)).is_admin
    keys.forget_team("crew")
    assert (await keys.principal_of(KEY)).is_team_blocked


async def test_a_change_of_a_key_holds_for_the_secret_that_it_had_before(worker: Instance) -> None:
    await new_key(worker)
    with worker.services.database.active():
        await DeprecatedKey.create(
            token=hash_key("sk-alice-before-0123456789"),
            active_token=hash_key(KEY),
            revoke_at=datetime.now(UTC) + timedelta(hours=1),
        )
    keys = worker.services.keys
    assert (await keys.principal_of("sk-alice-before-0123456789")).key_hash == hash_key(KEY)
    with worker.services.database.active():
        await VirtualKey.filter(token=hash_key(KEY)).update(blocked=True)
    keys.forget(hash_key(KEY))
    assert (await keys.principal_of("sk-alice-before-0123456789")).is_blocked


async def test_a_period_that_is_over_and_has_no_successor_costs_no_questions(worker: Instance) -> None:
    await new_key(worker, budget_reset_at=datetime.now(UTC) - timedelta(days=1))
    first = await worker.services.keys.principal_of(KEY)
    assert await worker.services.keys.principal_of(KEY) is first


async def test_a_change_of_another_process_is_seen_after_the_life_time(
    migrated_sqlite_url: str, tmp_path: Path
) -> None:
    async with serving(migrated_sqlite_url, state_dir=tmp_path, key_cache_ttl=0.1) as instance:
        await new_key(instance)
        await instance.services.keys.principal_of(KEY)
        with instance.services.database.active():
            await VirtualKey.filter(token=hash_key(KEY)).delete()
        await asyncio.sleep(0.15)
        assert isinstance(await error_of(instance, KEY), KeyNotFound)


async def test_an_unknown_key_is_named_by_its_end_and_hash(worker: Instance) -> None:
    answer = await worker.http.get("/v1/models", headers=bearer("sk-unknown-0123456789"))
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("token_not_found_in_db", "key")
    assert "sk-...6789" in error["message"]
    assert hash_key("sk-unknown-0123456789") in error["message"]
    assert "sk-unknown" not in error["message"]


async def test_what_is_no_key_is_told_so_without_repeating_it(worker: Instance) -> None:
    error = await error_of(worker, "my-password")
    assert isinstance(error, Unauthenticated)
    assert "LiteLLM Virtual Key expected" in error.message
    assert "my-password" not in error.message


async def test_many_calls_on_one_new_key_ask_the_database_once(migrated_postgres_url: str, tmp_path: Path) -> None:
    async with behind_proxy(migrated_postgres_url, tmp_path) as (instance, proxy):
        await new_key(instance)
        before = proxy.connections
        found = await asyncio.gather(*(instance.services.keys.principal_of(KEY) for _ in range(50)))
        assert {id(principal) for principal in found} == {id(found[0])}
        # Fifty look-ups would open all ten of the pool; work in the background may open one or two meanwhile.
        assert proxy.connections <= before + 2


# ---- the database away ---------------------------------------------------------------------------------------------


async def test_known_keys_work_on_and_unknown_ones_wait_while_postgresql_is_away(
    migrated_postgres_url: str, tmp_path: Path
) -> None:
    async with behind_proxy(migrated_postgres_url, tmp_path, key_cache_ttl=0.1) as (instance, proxy):
        await new_key(instance)
        await instance.services.keys.principal_of(KEY)
        take_away(proxy)
        await asyncio.sleep(0.15)
        for _ in range(3):
            assert (await instance.http.get("/v1/models", headers=bearer(KEY))).status_code == 200
        assert (await instance.http.get("/v1/models", headers=bearer(MASTER_KEY))).status_code == 200
        refused = await instance.http.get("/v1/models", headers=bearer("sk-never-seen-0123"))
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert refused.json()["error"]["type"] == "service_unavailable_error"

        proxy.accept()
        again = await instance.http.get("/v1/models", headers=bearer("sk-never-seen-0123"))
        assert again.status_code == 401


async def test_a_key_that_was_proven_unknown_is_not_let_in_by_an_outage(
    migrated_postgres_url: str, tmp_path: Path
) -> None:
    async with behind_proxy(migrated_postgres_url, tmp_path, key_cache_ttl=0.1) as (instance, proxy):
        assert isinstance(await error_of(instance, KEY), KeyNotFound)
        take_away(proxy)
        await asyncio.sleep(0.15)
        assert isinstance(await error_of(instance, KEY), ServiceUnavailable)


async def test_a_database_that_does_not_answer_delays_a_known_key_for_a_moment_only(
    migrated_postgres_url: str, tmp_path: Path
) -> None:
    async with behind_proxy(migrated_postgres_url, tmp_path, key_cache_ttl=0.1) as (instance, proxy):
        await new_key(instance)
        await instance.services.keys.principal_of(KEY)
        await asyncio.sleep(0.15)
        proxy.pause()
        started = time.monotonic()
        principal: Principal = await instance.services.keys.principal_of(KEY)
        assert principal.role is Role.KEY_ONLY
        assert time.monotonic() - started < 5
        proxy.resume()


async def test_sign_in_says_that_the_database_is_away(migrated_postgres_url: str, tmp_path: Path) -> None:
    async with behind_proxy(migrated_postgres_url, tmp_path) as (instance, proxy):
        await instance.token()
        take_away(proxy)
        for credentials in (
            {"username": "admin", "password": MASTER_KEY},
            {"username": "a@b.example", "password": "x"},
        ):
            answer = await instance.http.post("/v2/login", json=credentials)
            assert answer.status_code == 503, answer.text
            assert answer.headers["Retry-After"]
        proxy.accept()
        await instance.token()


async def test_a_database_that_says_no_proves_no_key_bad(migrated_sqlite_url: str, tmp_path: Path) -> None:
    async with serving(migrated_sqlite_url, state_dir=tmp_path, key_cache_ttl=0.05) as instance:
        await new_key(instance)
        known = await instance.services.keys.principal_of(KEY)
        await instance.services.database.fetch("ALTER TABLE virtual_key RENAME TO elsewhere")
        await asyncio.sleep(0.1)
        assert await instance.services.keys.principal_of(KEY) is known
        assert isinstance(await error_of(instance, "sk-never-seen-before"), ServiceUnavailable)


async def test_an_alias_that_names_no_model_is_passed_over(worker: Instance) -> None:
    await new_key(worker, aliases={"a": "chat", "b": [], "c": None})
    assert (await worker.services.keys.principal_of(KEY)).aliases == {"a": "chat"}
