"""The models of a team."""

from __future__ import annotations

import asyncio

from tests.admin.conftest import Caller
from tests.admin.organization_cast import new_organization, new_team, organization_admin


async def test_models_are_added_and_taken_away(admin: Caller) -> None:
    team_id = await new_team(admin, models=["a"])
    row = (await admin.post("/team/model/add", team_id=team_id, models=["b", "a", "c"])).json()
    assert (row["team_id"], row["models"]) == (team_id, ["a", "b", "c"])
    row = (await admin.post("/team/model/delete", team_id=team_id, models=["a", "zzz"])).json()
    assert row["models"] == ["b", "c"]


async def test_a_team_without_its_last_model_has_none_and_not_all(admin: Caller) -> None:
    team_id = await new_team(admin, models=["a"])
    row = (await admin.post("/team/model/delete", team_id=team_id, models=["a"])).json()
    assert row["models"] == ["no-default-models"]
    assert (await admin.post("/team/model/add", team_id=team_id, models=["b"])).json()["models"] == ["b"]


async def test_models_that_are_added_at_once_are_all_there(admin: Caller) -> None:
    team_id = await new_team(admin, models=["m"])
    calls = [admin.post("/team/model/add", team_id=team_id, models=[f"m{number}"]) for number in range(12)]
    assert {answer.status_code for answer in await asyncio.gather(*calls)} == {200}
    models = (await admin.get("/team/info", team_id=team_id)).json()["team_info"]["models"]
    assert sorted(models) == sorted(["m", *(f"m{number}" for number in range(12))])


async def test_wrong_models_are_refused(admin: Caller) -> None:
    team_id = await new_team(admin, models=["m"])
    for path in ("/team/model/add", "/team/model/delete"):
        assert (await admin.post(path, team_id="zzz", models=["m"])).status_code == 404
        assert (await admin.post(path, team_id=team_id, models=[])).status_code == 400
        assert (await admin.post(path, team_id=team_id)).status_code == 422
        assert (await admin.post(path, team_id=team_id, models=["x"], version=99)).status_code == 409


async def test_admins_of_a_team_give_it_no_models(admin: Caller, alice: Caller, bob: Caller) -> None:
    team_id = await new_team(admin, models=["a", "b"], members_with_roles=[{"user_id": "alice", "role": "admin"}])
    assert (await alice.post("/team/model/add", team_id=team_id, models=["c"])).status_code == 403
    assert (await alice.post("/team/model/delete", team_id=team_id, models=["a"])).status_code == 200
    assert (await bob.post("/team/model/delete", team_id=team_id, models=["b"])).status_code == 403


async def test_admins_of_the_organization_give_what_it_has(admin: Caller) -> None:
    await new_organization(admin, models=["a", "b"])
    olga = await organization_admin(admin)
    team_id = await new_team(olga, organization_id="acme", models=["a"])
    assert (await olga.post("/team/model/add", team_id=team_id, models=["b"])).status_code == 200
    assert (await olga.post("/team/model/add", team_id=team_id, models=["c"])).status_code == 400
