"""What the configuration says about new keys, seen from outside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from quart import Quart

from app.settings import Settings
from tests.admin.conftest import Caller
from tests.admin.org_cast import services_of
from tests.conftest import MASTER_KEY


@pytest.fixture
def settings(migrated_sqlite_url: str, tmp_path: Path) -> Settings:
    return Settings(
        master_key=MASTER_KEY,
        database_url=migrated_sqlite_url,
        state_dir=tmp_path / "state",
        spend_flush_seconds=3600.0,
        permit_weak_master_key=True,
        default_key_generate_params={"rpm_limit": 7, "budget_duration": "30d"},
        upperbound_key_generate_params={"max_budget": 10, "duration": "30d"},
        key_generation_settings={
            "team_key_generation": {"allowed_team_member_roles": ["admin"], "required_params": ["tags"]},
            "personal_key_generation": {"allowed_user_roles": ["proxy_admin"]},
        },
        disable_custom_api_keys=True,
    )


async def test_defaults_fill_what_is_left_out(admin: Caller) -> None:
    key = await admin.new_key()
    assert (key["rpm_limit"], key["budget_duration"]) == (7, "30d")
    key = await admin.new_key(rpm_limit=9, budget_duration=None)
    assert (key["rpm_limit"], key["budget_duration"]) == (9, None)


async def test_ceilings_bound_new_and_changed_keys(admin: Caller) -> None:
    key = await admin.new_key()
    assert key["max_budget"] == 10 and key["expires"] is not None
    for path in ("/key/generate", "/key/update"):
        refused = await admin.post(path, max_budget=11, **({"key": key["key"]} if path == "/key/update" else {}))
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "max_budget")
    assert (await admin.post("/key/generate", duration="31d")).status_code == 400
    assert (await admin.post("/key/update", key=key["key"], max_budget=None)).json()["max_budget"] == 10


async def test_ceilings_bound_the_first_key_of_a_user_too(admin: Caller) -> None:
    made = (await admin.post("/user/new", user_id="newest")).json()
    key = await admin.info(made["key"])
    assert key["max_budget"] == 10 and key["expires"] is not None
    assert (await admin.post("/user/new", user_id="other", duration="31d")).status_code == 400


async def test_nobody_chooses_a_secret(admin: Caller) -> None:
    assert (await admin.post("/key/generate", key="sk-chosen-by-the-admin-1")).status_code == 403
    key = await admin.new_key()
    refused = await admin.post("/key/regenerate", key=key["key"], new_key="sk-chosen-by-the-admin-1")
    assert refused.status_code == 403


async def test_roles_and_demanded_fields(admin: Caller, alice: Caller, bob: Caller) -> None:
    personal = await alice.post("/key/generate")
    assert personal.status_code == 400 and "restricted" in personal.text
    members = [{"user_id": "alice", "role": "admin"}, {"user_id": "bob", "role": "user"}]
    answer = await admin.post("/team/new", members_with_roles=members, team_member_permissions=["/key/generate"])
    team = answer.json()["team_id"]
    assert (await bob.post("/key/generate", team_id=team, tags=["a"])).status_code == 400
    missing = await alice.post("/key/generate", team_id=team)
    assert (missing.status_code, missing.json()["error"]["param"]) == (400, "tags")
    assert (await alice.post("/key/generate", team_id=team, tags=["a"])).status_code == 200


async def test_a_wrong_configuration_is_named(instance: Quart, admin: Caller) -> None:
    services = services_of(instance)
    services.settings = replace(services.settings, upperbound_key_generate_params={"models": 5})
    answer = await admin.post("/key/generate")
    assert answer.status_code == 500 and "litellm_settings.upperbound_key_generate_params" in answer.text
