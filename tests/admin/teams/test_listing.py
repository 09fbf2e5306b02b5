"""Lists of teams."""

from __future__ import annotations

import time

from quart import Quart

from app.models import Team, TeamMembership
from tests.admin.conftest import Caller
from tests.admin.organization_cast import database_of, new_organization, new_team, organization_admin

_ALICE = [{"user_id": "alice", "role": "user"}]


async def _ids(caller: Caller, path: str = "/v2/team/list", **query: object) -> list[str]:
    answer = await caller.get(path, **query)
    assert answer.status_code == 200, answer.text
    rows = answer.json()["teams"] if path == "/v2/team/list" else answer.json()
    return [row["team_id"] for row in rows]


async def test_lists(admin: Caller, alice: Caller, vera: Caller) -> None:
    one = await new_team(admin, team_alias="One", members_with_roles=_ALICE)
    two = await new_team(admin, team_alias="Two")
    await admin.new_key(team_id=one)
    assert await _ids(vera, "/team/list") == [two, one]
    assert await _ids(admin, "/team/list", page=2, page_size=1) == [one]
    assert await _ids(alice, "/team/list", user_id="alice") == [one]
    refusal = await alice.get("/team/list")
    assert (refusal.status_code, list(refusal.json())) == (401, ["detail"])
    assert (await alice.get("/v2/team/list", user_id="bob")).status_code == 401
    page = (await admin.get("/v2/team/list", page_size=1, sort_by="team_alias")).json()
    assert (page["total"], page["page"], page["page_size"], page["total_pages"]) == (2, 1, 1, 2)
    row = page["teams"][0]
    assert (row["team_id"], row["keys_count"], row["members_count"]) == (one, 1, 2)


async def test_lists_are_narrowed_and_sorted(admin: Caller) -> None:
    await new_organization(admin)
    await new_team(admin, team_id="t-1", team_alias="Blue", max_budget=2, organization_id="acme")
    await new_team(admin, team_id="t-2", team_alias="Red", max_budget=1)
    await new_team(admin, team_id="t-3", team_alias="Dark red", max_budget=3)
    assert await _ids(admin, team_alias="red", sort_by="team_id") == ["t-2", "t-3"]
    assert await _ids(admin, team_id="t-3") == ["t-3"]
    assert await _ids(admin, search="T-1") == ["t-1"]
    assert await _ids(admin, search="t-", search_team_id_match="exact") == []
    assert await _ids(admin, organization_id="acme") == ["t-1"]
    assert await _ids(admin, sort_by="max_budget", sort_order="desc") == ["t-3", "t-1", "t-2"]
    assert len(await _ids(admin, sort_by="nonsense")) == 3
    assert await _ids(admin, page=9) == []
    for wrong in ({"page": 0}, {"page_size": 101}):
        assert (await admin.get("/v2/team/list", **wrong)).status_code == 422


async def test_admins_of_an_organization_see_its_teams(admin: Caller, alice: Caller) -> None:
    await new_organization(admin)
    await new_organization(admin, "other")
    olga = await organization_admin(admin)
    own = await new_team(admin, organization_id="acme", members_with_roles=_ALICE)
    await new_team(admin, organization_id="other", members_with_roles=_ALICE)
    assert await _ids(olga) == [own]
    assert await _ids(olga, organization_id="acme") == [own]
    assert await _ids(olga, user_id="alice") == [own]
    assert (await olga.get("/v2/team/list", organization_id="other")).status_code == 401
    assert len(await _ids(alice, user_id="alice")) == 2


async def test_a_field_offers_teams(admin: Caller, alice: Caller, vera: Caller) -> None:
    one = await new_team(admin, team_alias="One", members_with_roles=_ALICE)
    await new_team(admin, team_alias="Two")
    assert await _ids(vera, "/team/filter/ui", team_alias="o") != []
    assert len((await admin.get("/team/filter/ui")).json()) == 2
    assert (await alice.get("/team/filter/ui")).json() == [{"team_id": one, "team_alias": "One"}]


async def test_a_page_of_many_teams_is_quick(admin: Caller, instance: Quart) -> None:
    with database_of(instance).active():
        teams = [Team(team_id=f"t{number}", team_alias=f"Team {number}") for number in range(2_000)]
        await Team.bulk_create(teams, batch_size=500)
        await TeamMembership.bulk_create([TeamMembership(team_id=team.team_id, user_id="u") for team in teams])
    for query in ({}, {"search": "am 7"}, {"sort_by": "team_alias", "page": 19}):
        started = time.perf_counter()
        answer = await admin.get("/v2/team/list", page_size=100, **query)
        # Generous, since tests share the machine: a statement per team takes longer.
        assert time.perf_counter() - started < 1.0
        assert len(answer.json()["teams"]) == 100
        assert all(team["members_count"] == 1 for team in answer.json()["teams"])
