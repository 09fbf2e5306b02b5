"""Terms of one member: role, budget, limits, spend."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from quart import Quart

from app.models import Budget, TeamMembership
from tests.admin.conftest import Caller
from tests.admin.organization_cast import database_of, new_team

_ALICE = [{"user_id": "alice", "role": "user"}]


async def test_what_is_sent_of_a_member_s_terms_is_written(admin: Caller, alice: Caller) -> None:
    team_id = await new_team(admin, members_with_roles=_ALICE)
    terms = {
        "max_budget_in_team": 2.5,
        "tpm_limit": 100,
        "rpm_limit": 5,
        "budget_duration": "1d",
        "allowed_models": ["sample-chat"],
    }
    answer = await admin.post("/team/member_update", team_id=team_id, user_email="Alice@acme.example", **terms)
    assert answer.status_code == 200, answer.text
    expected = {"user_id": "alice", "user_email": "alice@acme.example", "team_id": team_id, **terms}
    assert expected.items() <= answer.json().items()
    await admin.post("/team/member_update", team_id=team_id, user_id="alice", role="admin", rpm_limit=None)
    info = (await admin.get("/team/info", team_id=team_id)).json()
    row = next(row for row in info["team_memberships"] if row["user_id"] == "alice")
    table = row["litellm_budget_table"]
    assert (table["max_budget"], table["tpm_limit"], table["rpm_limit"]) == (2.5, 100, None)
    assert table["budget_reset_at"] is not None
    assert "alice" in info["team_info"]["admins"]


async def test_one_member_s_terms_are_nobody_else_s(admin: Caller, alice: Caller) -> None:
    team_id = await new_team(admin, members_with_roles=_ALICE, team_member_budget=7, team_member_budget_duration="1d")
    changed = (await admin.post("/team/member_update", team_id=team_id, user_id="alice", tpm_limit=9)).json()
    assert (changed["max_budget_in_team"], changed["tpm_limit"], changed["budget_duration"]) == (7, 9, "1d")
    info = (await admin.get("/team/info", team_id=team_id)).json()
    assert info["team_info"]["team_member_budget_table"]["tpm_limit"] is None
    sources = {row["user_id"]: row["budget_source"] for row in info["team_memberships"]}
    assert sources == {"alice": "custom", "default_user_id": "team_default"}


async def test_a_temporary_increase_comes_with_its_end(admin: Caller, alice: Caller) -> None:
    team_id = await new_team(admin, members_with_roles=_ALICE)
    member = {"team_id": team_id, "user_id": "alice"}
    end = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")
    for wrong in (
        {"temp_budget_increase": 1},
        {"temp_budget_expiry": end},
        {"temp_budget_increase": 1, "temp_budget_expiry": None},
    ):
        assert (await admin.post("/team/member_update", **member, **wrong)).status_code == 422
    answer = await admin.post("/team/member_update", **member, temp_budget_increase=1, temp_budget_expiry=end)
    assert (answer.json()["temp_budget_increase"], answer.json()["temp_budget_expiry"]) == (1, end)


async def test_who_is_not_in_the_team_is_not_found_and_leaves_no_budget(
    admin: Caller, alice: Caller, bob: Caller, instance: Quart
) -> None:
    team_id = await new_team(admin, members_with_roles=_ALICE)
    for named in ({"user_id": "bob"}, {"user_id": "nobody"}, {"user_email": "nobody@acme.example"}):
        answer = await admin.post("/team/member_update", team_id=team_id, max_budget_in_team=1, **named)
        assert (answer.status_code, list(answer.json())) == (404, ["detail"])
    with database_of(instance).active():
        assert await Budget.all().count() == 0
    assert (await admin.post("/team/member_update", team_id=team_id, max_budget_in_team=1)).status_code == 422
    assert (await admin.post("/team/member_update", team_id="zzz", user_id="alice")).status_code == 404
    assert (await admin.post("/team/member_update", team_id=team_id, user_id="alice", role="king")).status_code == 422
    body = {"team_id": team_id, "user_id": "alice", "max_budget_in_team": 100}
    assert (await alice.post("/team/member_update", **body)).status_code == 403


async def test_spend_of_a_member_is_set_down(admin: Caller, alice: Caller, instance: Quart) -> None:
    team_id = await new_team(admin, members_with_roles=_ALICE, team_member_budget=3)
    with database_of(instance).active():
        await TeamMembership.filter(team_id=team_id, user_id="alice").update(spend=Decimal(2))
    path = f"/team/{team_id}/member/alice/reset_spend"
    assert (await alice.post(path)).status_code in (403, 422)
    assert (await alice.post(path, reset_to=0)).status_code == 403
    assert (await admin.post(path, reset_to=3)).status_code == 400
    answer = (await admin.post(path, reset_to=0.5)).json()
    assert (answer["spend"], answer["previous_spend"], answer["max_budget"]) == (0.5, 2, 3)
    assert (await admin.post(f"/team/{team_id}/member/bob/reset_spend", reset_to=0)).status_code == 404
