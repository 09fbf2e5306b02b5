"""May this call run? Checked in the contract's order (management.md §4); the first refusal is the answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from ..auth.principal import Principal
from ..deployments import Deployment
from ..errors import InvalidRequest, ModelAccessDenied
from ..spend.budget import BudgetBook, Reservation

_EVERYTHING = frozenset({"*", "all-proxy-models"})


def admit(
    principal: Principal,
    model: str,
    path: str,
    deployments: Sequence[Deployment],
    budgets: BudgetBook,
    estimate: Decimal,
) -> Reservation:
    """Refuse, or hold `estimate` USD below every budget of the caller."""
    principal.refuse_route(path, "llm")
    principal.refuse_blocked()
    if not _allows(principal.models, model, principal):
        raise ModelAccessDenied(_not_available(model, "API key"), param="model")
    principal.refuse_expired()
    principal.refuse_blocked_team()
    if not _allows(principal.team_models, model, principal):
        raise ModelAccessDenied(_not_available(model, "team"), type="team_model_access_denied", param="model")
    if not _allows(principal.user_models, model, principal):
        raise ModelAccessDenied(_not_available(model, "user"), type="user_model_access_denied", param="model")
    if not deployments:
        raise InvalidRequest(
            f"litellm.BadRequestError: You passed in model={model}. There are no healthy deployments for this model",
            param="model",
        )
    if all(_is_free(deployment) for deployment in deployments):
        return budgets.reserve((), Decimal(0))
    return budgets.reserve(principal.scopes, estimate)


def visible_models(principal: Principal, models: Iterable[str]) -> list[str]:
    """The models that a caller may ask for."""
    return [
        model
        for model in models
        if _allows(principal.models, model, principal)
        and _allows(principal.team_models, model, principal)
        and _allows(principal.user_models, model, principal)
    ]


def _allows(grants: Sequence[str], model: str, principal: Principal) -> bool:
    """Whether a list of grants covers a model. An empty list grants everything."""
    if not grants:
        return True
    for grant in grants:
        if grant == model or grant in _EVERYTHING:
            return True
        # The team's own list is checked by itself right after.
        if grant == "all-team-models" and principal.team_id is not None:
            return True
        if grant.endswith("*") and model.startswith(grant[:-1]):
            return True
    return False


def _not_available(model: str, holder: str) -> str:
    return (
        f"The requested model '{model}' is not available for this {holder}, or the model name is invalid. "
        "Check the models available to you and try again."
    )


def _is_free(deployment: Deployment) -> bool:
    prices = deployment.prices
    return prices is not None and not any(
        (prices.input.base, prices.input.tiers, prices.output.base, prices.output.tiers)
    )
