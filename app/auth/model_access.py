"""Which models a caller may ask for: the grants of key, team, member, user and organization must all agree.

An empty list grants everything. A grant is a model's name, a prefix with `*`, an access group, or one of the words
`*`, `all-proxy-models`, `all-team-models` (what the team may) and `no-default-models` (nothing).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ModelAccessDenied
from .principal import Principal

Groups = frozenset[str]

EVERY_MODEL = frozenset({"*", "all-proxy-models"})
# The grant that stands where an empty list, which grants everything, would come of taking something away.
NO_MODEL = "no-default-models"
_NO_GROUPS: Groups = frozenset()


def refuse_model_of_key(principal: Principal, model: str, groups: Groups = _NO_GROUPS) -> None:
    """403 when the key's own list does not cover a model. `groups`: the access groups that the model is in."""
    if not _covers(principal.models, model, groups, principal):
        raise ModelAccessDenied(_not_available(model, "API key"), param="model")


def refuse_model_of_others(
    principal: Principal, model: str, groups: Groups = _NO_GROUPS, *, is_own_model: bool = False
) -> None:
    """403 when the team, the membership, the user or the organization does not cover a model.

    `is_own_model`: the model was made for the caller's team, whose own list need not name it.
    """
    for holder, grants in _other_grants(principal, is_own_model=is_own_model):
        if not _covers(grants, model, groups, principal):
            raise ModelAccessDenied(_not_available(model, holder), type=f"{holder}_model_access_denied", param="model")


def allows(principal: Principal, model: str, groups: Groups = _NO_GROUPS, *, is_own_model: bool = False) -> bool:
    """Whether the caller may ask for a model."""
    return _covers(principal.models, model, groups, principal) and all(
        _covers(grants, model, groups, principal) for _, grants in _other_grants(principal, is_own_model=is_own_model)
    )


def _other_grants(principal: Principal, *, is_own_model: bool) -> tuple[tuple[str, Sequence[str]], ...]:
    return (
        ("team", () if is_own_model else principal.team_models),
        ("team_member", principal.member_models),
        ("user", principal.user_models),
        ("org", principal.organization_models),
    )


def _covers(grants: Sequence[str], model: str, groups: Groups, principal: Principal) -> bool:
    if not grants:
        return True
    for grant in grants:
        if grant == model or grant in EVERY_MODEL or grant in groups:
            return True
        # The team's own list is checked by itself.
        if grant == "all-team-models" and principal.team_id is not None:
            return True
        if grant.endswith("*") and model.startswith(grant[:-1]):
            return True
    return False


def _not_available(model: str, holder: str) -> str:
    return (
        f"The requested model '{model}' is not available for this {holder.replace('_', ' ')}, or the model name is "
        "invalid. Check the models available to you and try again."
    )
