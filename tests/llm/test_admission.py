"""Who may call what, in the contract's order of refusals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.auth.principal import BudgetScope, Principal
from app.auth.roles import Role
from app.deployments import Deployment, build_deployment
from app.errors import GatewayError
from app.llm.admission import admit, visible_models
from app.spend.budget import BudgetBook

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


def refusal(principal: Principal, deployments: Sequence[Deployment] | None = None, model: str = "chat") -> GatewayError:
    with pytest.raises(GatewayError) as refused:
        admit(principal, model, PATH, [chat()] if deployments is None else deployments, BudgetBook(), Decimal(0))
    return refused.value


def test_refusals_come_in_the_contract_s_order() -> None:
    principal = WRETCH
    for cure, status, kind in ORDER:
        error = refusal(principal)
        assert (error.status, error.type) == (status, kind), cure
        principal = replace(principal, **cure)
    admit(principal, "chat", PATH, [chat()], BudgetBook(), Decimal(0))


def test_a_model_that_nobody_serves_is_400_after_access_and_before_money() -> None:
    assert refusal(caller(models=("other",)), []).status == 403
    assert refusal(caller(expires_at=YESTERDAY), []).status == 401
    error = refusal(caller(scopes=FULL), [], model="nope")
    assert (error.status, error.type) == (400, "invalid_request_error")
    assert "You passed in model=nope. There are no healthy deployments for this model" in error.message


@pytest.mark.parametrize(
    ("grants", "model", "is_allowed"),
    [
        ((), "anything", True),
        (("chat",), "chat", True),
        (("chat",), "chat-2", False),
        (("*",), "anything", True),
        (("all-proxy-models",), "anything", True),
        (("team/*",), "team/a", True),
        (("team/*",), "team", False),
        (("team/*", "chat"), "chat", True),
        (("gpt-*",), "gpt-4o", True),
        (("no-default-models",), "chat", False),
        (("no-default-models", "chat"), "chat", True),
        (("all-team-models",), "chat", False),
        (("Chat",), "chat", False),
        (("",), "chat", False),
    ],
)
def test_what_a_list_of_grants_covers(grants: tuple[str, ...], model: str, is_allowed: bool) -> None:
    assert visible_models(caller(models=grants), [model]) == ([model] if is_allowed else [])


def test_all_team_models_are_those_of_the_team() -> None:
    member = caller(models=("all-team-models",), team_id="t", team_models=("chat", "gpt-*"))
    assert visible_models(member, ["chat", "gpt-4o", "claude"]) == ["chat", "gpt-4o"]
    assert refusal(member, model="claude").type == "team_model_access_denied"


def test_key_team_and_user_must_all_agree() -> None:
    member = caller(models=("a", "b"), team_models=("b", "c"), user_models=("*",))
    assert visible_models(member, ["a", "b", "c"]) == ["b"]


def test_a_model_that_costs_nothing_needs_no_budget() -> None:
    free = chat(input_cost_per_token=0, output_cost_per_token=0)
    admit(caller(scopes=FULL), "chat", PATH, [free], BudgetBook(), Decimal(0))
    assert refusal(caller(scopes=FULL), [free, chat()]).status == 422
    unpriced = build_deployment("chat", {"model": "openai/no-such-model-9000"}, None, {})
    assert refusal(caller(scopes=FULL), [unpriced]).status == 422
