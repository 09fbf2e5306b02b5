"""What the configuration says about new teams, and about those that any user may join."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.settings import Settings
from tests.admin.conftest import Caller
from tests.admin.organization_cast import new_team, send


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(
        settings,
        default_team_params={"max_budget": 5, "tpm_limit": 100, "models": ["sample-chat"], "nonsense": 1},
        default_internal_user_params={"available_teams": ["open"]},
    )


async def test_a_new_team_has_what_it_is_not_given(admin: Caller) -> None:
    row = (await admin.post("/team/new", tpm_limit=None)).json()
    assert (row["max_budget"], row["tpm_limit"], row["models"]) == (5, None, ["sample-chat"])
    row = (await admin.post("/team/new", max_budget=9, models=[])).json()
    assert (row["max_budget"], row["models"]) == (9, [])


async def test_what_the_api_set_lies_over_the_file(admin: Caller) -> None:
    answer = await send(admin, "PATCH", "/update/default_team_settings", max_budget=7)
    assert answer.status_code == 200, answer.text
    row = (await admin.post("/team/new")).json()
    assert (row["max_budget"], row["tpm_limit"]) == (7, 100)


async def test_teams_of_the_settings_are_available_if_they_exist(admin: Caller, alice: Caller) -> None:
    assert (await alice.get("/team/available")).json() == []
    await new_team(admin, team_id="open", team_alias="Open", metadata={"description": "For all"})
    rows = (await alice.get("/team/available")).json()
    assert [(row["team_id"], row["description"], row["members_count"]) for row in rows] == [("open", "For all", 1)]
