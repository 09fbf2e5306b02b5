"""What members of a team may do with its keys."""

from __future__ import annotations

from tests.admin.conftest import Caller
from tests.admin.organization_cast import new_team

_MEMBERS = [{"user_id": "alice", "role": "admin"}, {"user_id": "bob", "role": "user"}]


async def test_permissions_are_replaced_and_listed(admin: Caller, alice: Caller, bob: Caller) -> None:
    team_id = await new_team(admin, members_with_roles=_MEMBERS)
    listed = (await bob.get("/team/permissions_list", team_id=team_id)).json()
    assert listed["team_member_permissions"] == ["/key/info", "/key/health"]
    assert {"/key/generate", "/key/info"} <= set(listed["all_available_permissions"])
    body = {"team_id": team_id, "team_member_permissions": ["/key/generate"]}
    answer = await alice.post("/team/permissions_update", **body)
    assert (answer.status_code, answer.json()["team_member_permissions"]) == (200, ["/key/generate"])
    listed = (await admin.get("/team/permissions_list", team_id=team_id)).json()
    assert listed["team_member_permissions"] == ["/key/info", "/key/health", "/key/generate"]


async def test_nonsense_is_no_permission(admin: Caller) -> None:
    team_id = await new_team(admin)
    answer = await admin.post("/team/permissions_update", team_id=team_id, team_member_permissions=["/nonsense"])
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "team_member_permissions")
    assert (await admin.post("/team/permissions_update", team_id=team_id)).status_code == 422
    assert (await admin.post("/team/permissions_update", team_id="z", team_member_permissions=[])).status_code == 404
    assert (await admin.get("/team/permissions_list", team_id="z")).status_code == 404


async def test_members_permit_themselves_nothing(admin: Caller, alice: Caller, bob: Caller) -> None:
    team_id = await new_team(admin, members_with_roles=[_MEMBERS[1]])
    body = {"team_id": team_id, "team_member_permissions": ["/key/generate"]}
    assert (await bob.post("/team/permissions_update", **body)).status_code == 403
    assert (await alice.get("/team/permissions_list", team_id=team_id)).status_code == 403
