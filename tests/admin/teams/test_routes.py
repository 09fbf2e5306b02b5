"""Creating, changing and blocking teams."""

from __future__ import annotations

import asyncio

from tests.admin.conftest import Caller
from tests.admin.organization_cast import new_organization, new_team, organization_admin, send


async def test_the_creator_is_the_first_admin(admin: Caller) -> None:
    answer = (
        await admin.post("/team/new", team_alias="Team", models=["sample-chat"], max_budget=5, soft_budget=4)
    ).json()
    assert (answer["team_alias"], answer["models"], answer["max_budget"]) == ("Team", ["sample-chat"], 5)
    assert answer["members_with_roles"] == [{"user_id": "default_user_id", "user_email": None, "role": "admin"}]
    assert (answer["admins"], answer["members"], answer["blocked"]) == (["default_user_id"], [], False)


async def test_a_wrong_team_is_refused(admin: Caller) -> None:
    cases: list[tuple[dict[str, object], int]] = [
        ({"max_budget": 1, "soft_budget": 1}, 400),
        ({"max_budget": -1}, 400),
        ({"budget_duration": "5x"}, 400),
        ({"team_member_permissions": ["/nonsense"]}, 400),
        ({"team_id": "litellm-dashboard"}, 400),
        ({"models": "all"}, 422),
        ({"members_with_roles": [{"role": "king", "user_id": "u"}]}, 422),
    ]
    for body, status in cases:
        assert (await admin.post("/team/new", **body)).status_code == status
        assert (await admin.get("/team/list")).json() == []


async def test_an_id_is_there_once_and_an_alias_may_be_there_twice(admin: Caller) -> None:
    await new_team(admin, team_id="t1", team_alias="Team")
    assert (await admin.post("/team/new", team_id="t1")).status_code == 400
    await new_team(admin, team_id="t2", team_alias="Team")


async def test_only_what_is_sent_changes(admin: Caller) -> None:
    team_id = await new_team(admin, team_alias="Team", max_budget=5, metadata={"a": 1}, budget_duration="1d")
    answer = (await admin.post("/team/update", team_id=team_id, tpm_limit=3)).json()
    assert answer["team_id"] == team_id
    data = answer["data"]
    assert (data["max_budget"], data["metadata"], data["tpm_limit"], data["team_alias"]) == (5, {"a": 1}, 3, "Team")
    data = (await admin.post("/team/update", team_id=team_id, max_budget=None, budget_duration=None)).json()["data"]
    assert (data["max_budget"], data["budget_duration"], data["budget_reset_at"]) == (None, None, None)
    assert (await admin.post("/team/update", team_id="zzz")).status_code == 404
    assert (await admin.post("/team/update", tpm_limit=3)).status_code == 422


async def test_blocking_holds_at_once(admin: Caller) -> None:
    team_id = await new_team(admin)
    assert (await admin.post("/team/block", team_id=team_id)).json()["blocked"] is True
    assert (await admin.get("/team/info", team_id=team_id)).json()["team_info"]["blocked"] is True
    assert (await admin.post("/team/unblock", team_id=team_id)).json()["blocked"] is False
    answer = await admin.post("/team/block", team_id="zzz")
    assert (answer.status_code, list(answer.json())) == (404, ["detail"])


async def test_a_new_team_has_members_of_every_kind(admin: Caller) -> None:
    members = [{"user_email": "New@acme.example", "role": "admin"}, {"user_id": "u1", "role": "user"}]
    answer = await admin.post("/team/new", members_with_roles=members, admins=["u2"], members=["u1", "u3"])
    assert answer.status_code == 200, answer.text
    found = {
        member["user_email"] or member["user_id"]: member["role"] for member in answer.json()["members_with_roles"]
    }
    assert found == {
        "new@acme.example": "admin",
        "u1": "user",
        "u2": "admin",
        "u3": "user",
        "default_user_id": "admin",
    }
    assert (await admin.post("/team/new", members_with_roles=[{"role": "user"}])).status_code == 422


async def test_fields_without_a_column_live_in_the_metadata(admin: Caller) -> None:
    team_id = await new_team(admin, metadata={"a": 1}, model_rpm_limit={"sample-chat": 3}, tags=["t"])
    row = (await admin.get("/team/info", team_id=team_id)).json()["team_info"]
    assert row["metadata"] == {"a": 1, "model_rpm_limit": {"sample-chat": 3}, "tags": ["t"]}
    data = (await admin.post("/team/update", team_id=team_id, model_rpm_limit=None)).json()["data"]
    assert data["metadata"]["a"] == 1


async def test_the_budget_of_members_is_a_row_that_metadata_name(admin: Caller) -> None:
    answer = await admin.post(
        "/team/new", team_alias="Team", team_member_budget=2, team_member_budget_duration="1d", team_member_rpm_limit=5
    )
    row = answer.json()
    budget_id = row["metadata"]["team_member_budget_id"]
    assert budget_id.startswith("team-Team-budget-")
    team_id = row["team_id"]
    data = (await admin.post("/team/update", team_id=team_id, metadata={"b": 2}, team_member_budget=3)).json()["data"]
    assert data["metadata"] == {"b": 2, "team_member_budget_id": budget_id}
    info = (await admin.get("/team/info", team_id=team_id)).json()
    table = info["team_info"]["team_member_budget_table"]
    assert (table["budget_id"], table["max_budget"], table["rpm_limit"]) == (budget_id, 3, 5)
    assert info["team_memberships"][0]["budget_source"] == "team_default"


async def test_nobody_points_the_budget_of_members_to_a_foreign_row(admin: Caller) -> None:
    await admin.post("/budget/new", budget_id="team-other", max_budget=1)
    answer = await admin.post("/team/new", metadata={"team_member_budget_id": "team-other"})
    assert answer.json()["metadata"] == {}


async def test_a_patch_merges_metadata(admin: Caller) -> None:
    team_id = await new_team(admin, metadata={"a": 1, "b": {"c": 1, "d": 2}}, team_member_budget=1)
    row = (await send(admin, "PATCH", f"/team/{team_id}", metadata={"a": None, "b": {"d": 3}, "e": [1]})).json()
    budget_id = row["metadata"].pop("team_member_budget_id")
    assert (row["team_id"], row["metadata"]) == (team_id, {"b": {"c": 1, "d": 3}, "e": [1]})
    row = (await send(admin, "PATCH", f"/team/{team_id}", metadata=None, max_budget=4)).json()
    assert (row["metadata"], row["max_budget"]) == ({"team_member_budget_id": budget_id}, 4)
    assert (await send(admin, "PATCH", "/team/zzz", max_budget=4)).status_code == 404


async def test_an_id_that_no_database_keeps_is_not_found(admin: Caller) -> None:
    assert (await send(admin, "PATCH", "/team/a%00b", max_budget=4)).status_code == 404
    assert (await admin.get("/team/a%00b/callback")).status_code == 404
    assert (await admin.get("/team/a%00b/members/me")).status_code == 404
    team_id = await new_team(admin)
    assert (await admin.post(f"/team/{team_id}/member/a%00b/reset_spend", reset_to=0)).status_code == 404


async def test_patches_at_once_lose_nothing(admin: Caller) -> None:
    team_id = await new_team(admin)
    calls = [send(admin, "PATCH", f"/team/{team_id}", metadata={f"n{number}": number}) for number in range(12)]
    assert {answer.status_code for answer in await asyncio.gather(*calls)} == {200}
    row = (await admin.get("/team/info", team_id=team_id)).json()["team_info"]
    assert row["metadata"] == {f"n{number}": number for number in range(12)}


async def test_a_stale_version_is_a_conflict(admin: Caller) -> None:
    team_id = await new_team(admin)
    version = (await admin.get("/team/info", team_id=team_id)).json()["team_info"]["version"]
    assert (await admin.post("/team/update", team_id=team_id, tpm_limit=3, version=version)).status_code == 200
    answer = await admin.post("/team/update", team_id=team_id, tpm_limit=4, version=version)
    assert (answer.status_code, answer.json()["error"]["param"]) == (409, "version")
    assert (await send(admin, "PATCH", f"/team/{team_id}", tpm_limit=4, version=version)).status_code == 409
    assert (await admin.post("/team/block", team_id=team_id, version=version)).status_code == 409


async def test_a_conflict_leaves_no_budget_behind(admin: Caller) -> None:
    team_id = await new_team(admin)
    assert (await admin.post("/team/update", team_id=team_id, team_member_budget=1, version=9)).status_code == 409
    info = (await admin.get("/team/info", team_id=team_id)).json()["team_info"]
    assert (info["metadata"], info["team_member_budget_table"]) == ({}, None)


async def test_a_team_stays_within_its_organization(admin: Caller) -> None:
    await new_organization(admin, models=["sample-chat", "openai/*"], max_budget=10, rpm_limit=60)
    refused: list[tuple[dict[str, object], str]] = [
        ({"organization_id": "nope"}, "organization_id"),
        ({"max_budget": 11}, "max_budget"),
        ({"rpm_limit": 61}, "rpm_limit"),
        ({"models": ["sample-chat", "other"]}, "models"),
        ({"models": ["all-proxy-models"]}, "models"),
    ]
    for body, param in refused:
        answer = await admin.post("/team/new", **{"organization_id": "acme", **body})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    answer = await admin.post("/team/new", organization_id="acme", max_budget=11)
    assert answer.json()["error"]["message"].startswith("Team max_budget (11) exceeds organization's max_budget (10)")
    team_id = await new_team(admin, organization_id="acme", max_budget=10, models=["openai/gpt"])
    assert (await admin.post("/team/update", team_id=team_id, max_budget=12)).status_code == 400
    big = await new_team(admin, max_budget=50)
    assert (await admin.post("/team/update", team_id=big, organization_id="acme")).status_code == 400
    assert (await admin.post("/team/update", team_id=big, organization_id="acme", max_budget=5)).status_code == 200


async def test_admins_of_an_organization_have_teams_in_it(admin: Caller, alice: Caller) -> None:
    await new_organization(admin, max_budget=10)
    await new_organization(admin, "other")
    olga = await organization_admin(admin)
    team_id = await new_team(olga, organization_id="acme", max_budget=5)
    assert (await olga.post("/team/new", organization_id="other")).status_code == 403
    assert (await olga.post("/team/new")).status_code == 400
    assert (await alice.post("/team/new", organization_id="acme")).status_code == 401
    assert (await olga.post("/team/update", team_id=team_id, max_budget=10)).status_code == 200
    assert (await olga.post("/team/update", team_id=team_id, max_budget=11)).status_code == 400
    assert (await olga.post("/team/update", team_id=team_id, organization_id="other")).status_code == 403
    assert (await olga.post("/team/update", team_id=team_id, organization_id=None)).status_code == 403
    assert (await olga.post("/team/block", team_id=team_id)).status_code == 200
    foreign = await new_team(admin, organization_id="other")
    assert (await olga.post("/team/update", team_id=foreign, team_alias="Mine")).status_code == 403
    assert (await olga.post("/team/block", team_id=foreign)).status_code == 403
    alone = await new_team(admin)
    assert (await olga.post("/team/update", team_id=alone, organization_id="acme")).status_code == 403


async def test_admins_of_a_team_edit_what_raises_nothing(
    admin: Caller, alice: Caller, bob: Caller, vera: Caller
) -> None:
    team_id = await new_team(
        admin,
        max_budget=5,
        model_rpm_limit={"sample-chat": 1},
        members_with_roles=[{"user_id": "alice", "role": "admin"}, {"user_id": "bob", "role": "user"}],
    )
    answer = await alice.post("/team/update", team_id=team_id, team_alias="Ours", max_budget=5, metadata={"a": 1})
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["metadata"] == {"a": 1, "model_rpm_limit": {"sample-chat": 1}}
    assert (await alice.post("/team/update", team_id=team_id, max_budget=4)).status_code == 200
    for ceiling in (5, None):
        refusal = await alice.post("/team/update", team_id=team_id, max_budget=ceiling)
        assert refusal.status_code == 403
        assert refusal.json()["error"]["message"] == "Only a proxy admin can raise a team's max_budget"
    changes = {"models": ["x"], "tpm_limit": 1, "model_rpm_limit": {}, "team_member_budget": 9}
    for name, value in changes.items():
        assert (await alice.post("/team/update", team_id=team_id, **{name: value})).status_code == 403
    assert (await alice.post("/team/unblock", team_id=team_id)).status_code == 403
    assert (await bob.post("/team/update", team_id=team_id, team_alias="Mine")).status_code == 403
    assert (await vera.post("/team/update", team_id=team_id, team_alias="Mine")).status_code == 403


async def test_the_id_of_a_deleted_team_is_the_admins_to_give(admin: Caller) -> None:
    """What it spent goes by its id, and was another organization's."""
    other, own = await new_organization(admin, "other"), await new_organization(admin)
    olga = await organization_admin(admin)
    await admin.post("/team/new", team_id="finance", organization_id=other)
    await admin.post("/team/delete", team_ids=["finance"])
    refused = await olga.post("/team/new", team_id="finance", organization_id=own)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "team_id"), refused.text
    assert (await admin.post("/team/new", team_id="finance", organization_id=other)).status_code == 200
