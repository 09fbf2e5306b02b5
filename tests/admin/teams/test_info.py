"""One team as its page shows it."""

from __future__ import annotations

from tests.admin.conftest import Caller
from tests.admin.organization_cast import new_organization, new_team, organization_admin

_MEMBERS = [{"user_id": "alice", "role": "admin"}, {"user_id": "bob", "role": "user"}]


async def test_a_team_as_its_page_shows_it(admin: Caller, alice: Caller, bob: Caller, ivan: Caller) -> None:
    await new_organization(admin, models=["sample-chat"])
    team_id = await new_team(admin, team_alias="Team", organization_id="acme", members_with_roles=_MEMBERS)
    info = (await admin.get("/team/info", team_id=team_id)).json()
    assert (info["team_id"], info["team_info"]["team_alias"]) == (team_id, "Team")
    assert info["team_info"]["organization_models"] == ["sample-chat"]
    assert info["team_info"]["model_max_budget_usage"] == []
    assert info["team_info"]["members_with_roles"][0] == {
        "user_id": "alice",
        "user_email": "alice@acme.example",
        "role": "admin",
        "user_alias": None,
    }
    assert [row["user_id"] for row in info["team_memberships"]] == ["alice", "bob", "default_user_id"]
    assert {row["budget_source"] for row in info["team_memberships"]} == {"none"}
    assert (await ivan.get("/team/info", team_id=team_id)).status_code == 403
    unknown = await admin.get("/team/info", team_id="nope")
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "auth_error")
    assert (await admin.get("/team/info")).status_code == 422


async def test_members_see_their_own_keys_and_admins_all(
    admin: Caller, alice: Caller, bob: Caller, vera: Caller
) -> None:
    await new_organization(admin)
    olga = await organization_admin(admin)
    team_id = await new_team(admin, organization_id="acme", members_with_roles=_MEMBERS)
    shared = await admin.new_key(team_id=team_id, key_alias="shared")
    await admin.new_key(team_id=team_id, key_alias="of bob", user_id="bob")
    await admin.new_key(team_id=team_id, key_alias="of alice", user_id="alice")
    holder = Caller(admin.client, shared["key"])

    async def seen(caller: Caller) -> set[str]:
        keys = (await caller.get("/team/info", team_id=team_id)).json()["keys"]
        return {key["key_alias"] for key in keys}

    everything = {"shared", "of bob", "of alice"}
    assert [await seen(caller) for caller in (admin, vera, olga, alice)] == [everything] * 4
    assert await seen(bob) == {"of bob"}
    assert await seen(holder) == {"shared"}
    assert len((await admin.get("/team/info", team_id=team_id, key_limit=1)).json()["keys"]) == 1


async def test_the_page_learns_what_its_reader_may_edit(
    admin: Caller, alice: Caller, bob: Caller, vera: Caller
) -> None:
    await new_organization(admin)
    olga = await organization_admin(admin)
    team_id = await new_team(admin, organization_id="acme", members_with_roles=_MEMBERS)

    async def kind(caller: Caller) -> str:
        info = (await caller.get("/team/info", team_id=team_id)).json()["team_info"]
        return str(info["caller_edit_access"]["kind"])

    found = [await kind(caller) for caller in (admin, olga, alice, bob, vera)]
    assert found == ["unrestricted", "unrestricted", "team_admin", "none", "none"]


async def test_a_member_sees_their_own_membership(admin: Caller, alice: Caller, bob: Caller) -> None:
    team_id = await new_team(admin, members_with_roles=[_MEMBERS[0]], team_member_budget=3)
    mine = (await alice.get(f"/team/{team_id}/members/me")).json()
    assert (mine["user_id"], mine["user_email"], mine["role"]) == ("alice", "alice@acme.example", "admin")
    assert (mine["litellm_budget_table"]["max_budget"], mine["budget_source"]) == (3, "team_default")
    assert (await bob.get(f"/team/{team_id}/members/me")).status_code == 404
    assert (await bob.get("/team/zzz/members/me")).status_code == 404


async def test_there_is_no_schema_for_metadata(alice: Caller) -> None:
    assert (await alice.get("/team/metadata_schema")).json() == {}
