"""Deleting teams."""

from __future__ import annotations

from quart import Quart

from app.models import AuditLog, Budget, DeletedVirtualKey, TeamMembership
from tests.admin.conftest import Caller
from tests.admin.organization_cast import database_of, new_organization, new_team, organization_admin


async def test_deleting_a_team_takes_all_that_hangs_on_it(admin: Caller, alice: Caller, instance: Quart) -> None:
    members = [{"user_id": "alice", "role": "admin"}]
    team_id = await new_team(admin, team_alias="Team", team_member_budget=1, members_with_roles=members)
    await admin.post("/team/member_update", team_id=team_id, user_id="alice", max_budget_in_team=2)
    key = await admin.new_key(team_id=team_id)
    holder = Caller(admin.client, key["key"])
    assert (await holder.get("/key/info")).status_code == 200
    assert (await alice.post("/team/delete", team_ids=[team_id])).status_code == 401
    assert (await admin.post("/team/delete", team_ids=[team_id])).json() == {"deleted_teams": [team_id]}
    assert (await holder.get("/key/info")).status_code == 401
    assert (await admin.post("/team/delete", team_ids=[team_id])).status_code == 404
    with database_of(instance).active():
        assert await Budget.all().count() == 0
        assert await TeamMembership.all().count() == 0
        assert await DeletedVirtualKey.filter(token=key["token"]).count() == 1
        assert await AuditLog.filter(action="deleted", object_id=team_id).count() == 1


async def test_a_deleted_team_leaves_a_tombstone(admin: Caller, alice: Caller) -> None:
    team_id = await new_team(admin, team_alias="Team", members_with_roles=[{"user_id": "alice", "role": "user"}])
    kept = await new_team(admin)
    await admin.post("/team/delete", team_ids=[team_id])
    page = (await admin.get("/v2/team/list", status="deleted")).json()
    assert page["total"] == 1
    row = page["teams"][0]
    assert (row["team_id"], row["team_alias"], row["members_count"]) == (team_id, "Team", 2)
    assert (row["deleted_by"], row["members"]) == ("default_user_id", ["alice"])
    assert [team["team_id"] for team in (await admin.get("/v2/team/list")).json()["teams"]] == [kept]
    mine = (await alice.get("/v2/team/list", status="deleted", user_id="alice")).json()
    assert mine["teams"] == []


async def test_teams_are_deleted_all_or_none(admin: Caller) -> None:
    team_id = await new_team(admin)
    assert (await admin.post("/team/delete", team_ids=[team_id, "zzz"])).status_code == 404
    assert (await admin.get("/team/info", team_id=team_id)).status_code == 200
    assert (await admin.post("/team/delete", team_ids=[])).status_code == 400


async def test_admins_of_an_organization_delete_its_teams_only(admin: Caller) -> None:
    await new_organization(admin)
    olga = await organization_admin(admin)
    own, foreign = await new_team(olga, organization_id="acme"), await new_team(admin)
    assert (await olga.post("/team/delete", team_ids=[own, foreign])).status_code == 403
    assert (await olga.post("/team/delete", team_ids=[own])).status_code == 200
