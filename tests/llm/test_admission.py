"""Who may call what, in the contract's order of refusals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.auth.principal import Principal
from app.auth.roles import Role
from app.deployments.deployment import Deployment, build_deployment
from app.errors import GatewayError
from app.llm.admission import Admission, AdmissionRequest
from app.settings import Settings
from app.spend.budget import Budgets
from app.spend.counters import MemoryCounters
from app.spend.scopes import BudgetScope
from app.spend.shared_scopes import SharedScopes
from app.storage.database import Database

PATH = "/v1/chat/completions"
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
FULL = (BudgetScope("key", "k", "Key=alice", Decimal(0)),)
# Everything is wrong with this caller. Each refusal is followed by the one that comes when its cause is gone.
WRETCH = Principal(
    role=Role.KEY_ONLY,
    key_hash="k",
    team_id="t",
    models=("other",),
    team_models=("other",),
    user_models=("other",),
    allowed_routes=("/key/info",),
    expires_at=YESTERDAY,
    is_blocked=True,
    is_team_blocked=True,
    scopes=FULL,
)
ORDER: list[tuple[dict[str, Any], int, str]] = [
    ({"allowed_routes": ()}, 403, "internal_server_error"),
    ({"is_blocked": False}, 401, "auth_error"),
    ({"models": ()}, 403, "key_model_access_denied"),
    ({"expires_at": None}, 401, "expired_key"),
    ({"is_team_blocked": False}, 401, "auth_error"),
    ({"team_models": ()}, 403, "team_model_access_denied"),
    ({"user_models": ()}, 403, "user_model_access_denied"),
    ({"scopes": ()}, 422, "budget_exceeded"),
]


def chat(**params: Any) -> Deployment:
    return build_deployment("chat", {"model": "openai/gpt-4o-mini", **params}, None, {})


def caller(**fields: Any) -> Principal:
    return Principal(role=Role.KEY_ONLY, key_hash="k", **fields)


async def admit(principal: Principal, deployments: Sequence[Deployment] | None = None, model: str = "chat") -> None:
    settings = Settings(database_url="sqlite:///never-opened.db")
    admission = Admission(Budgets(MemoryCounters()), SharedScopes(settings, Database(settings)))
    found = (chat(),) if deployments is None else deployments
    await admission.admit(AdmissionRequest(principal=principal, model=model, path=PATH, deployments=found))


async def refusal(
    principal: Principal, deployments: Sequence[Deployment] | None = None, model: str = "chat"
) -> GatewayError:
    with pytest.raises(GatewayError) as refused:
        await admit(principal, deployments, model)
    return refused.value


async def test_refusals_come_in_the_contract_s_order() -> None:
    principal = WRETCH
    for cure, status, kind in ORDER:
        error = await refusal(principal)
        assert (error.status, error.type) == (status, kind), cure
        principal = replace(principal, **cure)
    await admit(principal)


async def test_a_model_that_nobody_serves_is_400_after_access_and_before_money() -> None:
    assert (await refusal(caller(models=("other",)), [])).status == 403
    assert (await refusal(caller(expires_at=YESTERDAY), [])).status == 401
    error = await refusal(caller(scopes=FULL), [], model="nope")
    assert (error.status, error.type) == (400, "invalid_request_error")
    assert "You passed in model=nope. There are no healthy deployments for this model" in error.message


async def test_a_model_that_costs_nothing_needs_no_budget() -> None:
    free = chat(input_cost_per_token=0, output_cost_per_token=0)
    await admit(caller(scopes=FULL), [free])
    assert (await refusal(caller(scopes=FULL), [free, chat()])).status == 422
    unpriced = build_deployment("chat", {"model": "openai/no-such-model-9000"}, None, {})
    assert (await refusal(caller(scopes=FULL), [unpriced])).status == 422
