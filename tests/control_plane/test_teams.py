"""The teams of one worker: listed, made, and refused without a name."""

from __future__ import annotations

from .console_app import Console, post, text_of
from .contract_worker import ContractWorker

EU = "/ui/workers/eu"


async def test_teams(console: Console, eu: ContractWorker) -> None:
    client = await console.signed_in("eu")
    assert "No teams on EU Production" in await text_of(client, f"{EU}/teams")
    assert (await post(client, f"{EU}/teams", team_alias="Payments", max_budget="500")).status_code == 303
    assert eu.bodies("/team/new") == [{"team_alias": "Payments", "max_budget": 500.0}]
    page = await text_of(client, f"{EU}/teams")
    assert "Payments" in page and "of $500" in page
    response = await post(client, f"{EU}/teams", team_alias="")
    assert response.status_code == 422
