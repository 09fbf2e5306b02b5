"""What admins of an organization may do to users."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from quart import Quart

from app.models.user import ADMIN_USER_ID
from tests.admin.conftest import Caller
from tests.admin.org_cast import organization, owned_by


@pytest.fixture
async def olga(admin: Caller, alice: Caller, instance: Quart) -> Caller:
    """Alice as admin of the organization acme, which Bob's cousin Ben was made for."""
    await organization(instance, "other")
    await organization(instance, "acme", alice="org_admin")
    ben = {"user_id": "ben", "user_email": "ben@acme.example", "organizations": ["acme"]}
    assert (await admin.post("/user/new", auto_create_key=False, **ben)).status_code == 200
    return alice


async def test_they_create_users_of_their_organization(admin: Caller, olga: Caller) -> None:
    answer = await olga.post("/user/new", user_id="new", organizations=["acme"], user_role="internal_user")
    assert answer.status_code == 200, answer.text
    info = (await admin.get("/user/info", user_id="new")).json()["user_info"]
    (membership,) = info["organization_memberships"]
    assert (membership["organization_id"], membership["user_role"]) == ("acme", "internal_user")
    flat = (await olga.get("/v2/user/info", user_id="new")).json()
    assert flat["organization_memberships"][0]["organization_id"] == "acme"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"organizations": ["other"]},
        {"organizations": ["acme", "other"]},
        {"organizations": ["acme"], "user_role": "proxy_admin"},
        {"organizations": ["acme"], "user_role": "proxy_admin_viewer"},
        {"organizations": ["acme"], "teams": ["foreign"]},
        {"organizations": ["acme"], "permissions": {"a": True}},
        {"organization_id": "other"},
    ],
)
async def test_they_create_no_others(admin: Caller, olga: Caller, fields: dict[str, Any]) -> None:
    await admin.post("/team/new", team_id="foreign")
    refused = await olga.post("/user/new", user_id="new", **fields)
    assert refused.status_code == 403, refused.text
    assert (await admin.get("/user/info", user_id="new")).status_code == 404


async def test_they_put_users_into_their_teams(admin: Caller, olga: Caller, instance: Quart) -> None:
    await admin.post("/team/new", team_id="own")
    await owned_by(instance, "own", "acme")
    teams = [{"team_id": "own", "user_role": "admin", "max_budget_in_team": 2}]
    answer = await olga.post("/user/new", user_id="new", organization_id="acme", teams=teams)
    assert (answer.status_code, answer.json()["teams"]) == (200, ["own"]), answer.text
    rows = (await admin.get("/team/info", team_id="own")).json()
    roles = {row["user_id"]: row["role"] for row in rows["team_info"]["members_with_roles"]}
    assert roles["new"] == "admin"
    (budget,) = [row["litellm_budget_table"] for row in rows["team_memberships"] if row["user_id"] == "new"]
    assert budget["max_budget"] == 2


async def test_they_change_and_delete_users_of_theirs(admin: Caller, olga: Caller, bob: Caller) -> None:
    changed = await olga.post("/user/update", user_id="ben", max_budget=3)
    assert (changed.status_code, changed.json()["data"]["max_budget"]) == (200, 3)
    assert (await olga.post("/user/update", user_email="ben@acme.example", user_alias="Ben")).status_code == 200
    for fields in (
        {"password": "a long password"},
        {"user_email": "mine@acme.example"},
        {"sso_user_id": "x"},
        {"user_role": "proxy_admin"},
        {"organization_id": "other"},
    ):
        assert (await olga.post("/user/update", user_id="ben", **fields)).status_code == 403, fields
    for user_id in ("bob", "alice"):
        assert (await olga.post("/user/update", user_id=user_id, max_budget=9)).status_code == 403
        assert (await olga.post("/user/delete", user_ids=[user_id])).status_code == 403
    assert (await olga.post("/user/delete", user_ids=["ben", "bob"])).status_code == 403
    assert (await olga.post("/user/delete", user_ids=["ben"])).json() == 1


async def test_whom_others_took_in_is_not_theirs(admin: Caller, olga: Caller, bob: Caller) -> None:
    member = {"role": "internal_user", "user_id": "bob"}
    assert (await olga.post("/organization/member_add", organization_id="acme", member=member)).status_code == 403
    assert (await admin.post("/organization/member_add", organization_id="acme", member=member)).status_code == 200
    assert (await olga.post("/user/update", user_id="bob", max_budget=9)).status_code == 403
    assert (await olga.post("/user/delete", user_ids=["bob"])).status_code == 403


async def test_a_member_of_two_organizations_is_out_of_reach(admin: Caller, olga: Caller, instance: Quart) -> None:
    await organization(instance, "other", ben="internal_user")
    assert (await olga.post("/user/update", user_id="ben", max_budget=9)).status_code == 403


async def test_they_list_users_of_theirs(admin: Caller, olga: Caller, bob: Caller) -> None:
    listed = (await olga.get("/user/list", sort_by="user_id", sort_order="asc")).json()
    assert [user["user_id"] for user in listed["users"]] == ["alice", "ben"]
    assert listed["users"][1]["organization_memberships"][0]["organization_id"] == "acme"
    assert (await olga.get("/user/list", organization_ids="other")).status_code == 403
    assert (await olga.get("/user/info", user_id="bob")).status_code == 403
    assert (await admin.get("/user/list", organization_ids="acme")).json()["total"] == 2
    assert (await admin.get("/user/list")).json()["total"] == 3
    assert (await olga.get("/user/available_users")).json()["total_users_used"] == 2


async def test_unknown_organizations_are_refused(admin: Caller) -> None:
    assert (await admin.post("/user/new", user_id="u", organizations=["nobody"])).status_code == 400


async def test_the_built_in_admin_is_not_theirs_to_make(admin: Caller, olga: Caller, instance: Quart) -> None:
    """Its row becomes an admin's when the admin signs in, with every key that it had before."""
    await admin.post("/team/new", team_id="own")
    await owned_by(instance, "own", "acme")
    await admin.post("/team/member_delete", team_id="own", user_id=ADMIN_USER_ID)
    member = {"user_id": ADMIN_USER_ID, "role": "user"}
    for path, body in (
        ("/user/new", {"user_id": ADMIN_USER_ID, "organizations": ["acme"]}),
        ("/organization/member_add", {"organization_id": "acme", "member": {"user_id": ADMIN_USER_ID}}),
        ("/team/member_add", {"team_id": "own", "member": member}),
        ("/team/new", {"organization_id": "acme", "members_with_roles": [member]}),
    ):
        refused = await olga.post(path, **body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (403, "user_id"), path
    assert (await admin.get("/user/list", user_ids=ADMIN_USER_ID)).json()["total"] == 0


async def test_the_first_key_of_their_user_calls_models_only(
    admin: Caller, olga: Caller, client: httpx.AsyncClient
) -> None:
    """They know its secret, and the user may become more than they are."""
    made = (await olga.post("/user/new", user_id="new", organizations=["acme"])).json()
    assert made["allowed_routes"] == ["llm_api_routes"]
    await admin.post("/user/update", user_id="new", user_role="proxy_admin")
    assert (await Caller(client, made["key"]).get("/user/list")).status_code == 403
    wider = await olga.post("/user/new", user_id="newer", organizations=["acme"], key_type="management")
    assert wider.status_code == 403, wider.text
    assert (await admin.post("/user/new", user_id="newest")).json()["allowed_routes"] == []


async def test_who_is_taken_in_keeps_other_keys_and_teams_private(
    admin: Caller, olga: Caller, bob: Caller, instance: Quart
) -> None:
    for team_id, home in (("own", "acme"), ("foreign", "other")):
        await admin.post("/team/new", team_id=team_id)
        await owned_by(instance, team_id, home)
        await admin.post("/team/member_add", team_id=team_id, member={"user_id": "bob", "role": "user"})
    own = await admin.new_key(user_id="bob", team_id="own")
    await admin.new_key(user_id="bob", team_id="foreign")
    await organization(instance, "other", bob="internal_user")
    await organization(instance, "acme", bob="internal_user")
    seen = (await olga.get("/user/info", user_id="bob")).json()
    assert [key["token"] for key in seen["keys"]] == [own["token"]]
    assert [team["team_id"] for team in seen["teams"]] == ["own"] == seen["user_info"]["teams"]
    assert [row["organization_id"] for row in seen["user_info"]["organization_memberships"]] == ["acme"]
    flat = (await olga.get("/v2/user/info", user_id="bob")).json()
    assert (flat["teams"], len(flat["organization_memberships"])) == (["own"], 1)
    (row,) = (await olga.get("/user/list", user_ids="bob")).json()["users"]
    assert (row["teams"], len(row["organization_memberships"])) == (["own"], 1)
    for caller in (admin, bob):
        assert len((await caller.get("/user/info", user_id="bob")).json()["keys"]) == 3
    (row,) = (await admin.get("/user/list", user_ids="bob")).json()["users"]
    assert (row["teams"], len(row["organization_memberships"])) == (["foreign", "own"], 2)
