"""Which models a caller may ask for."""

from __future__ import annotations

from typing import Any

import pytest

from app.auth.model_access import allows, refuse_model_of_key, refuse_model_of_others
from app.auth.principal import Principal
from app.auth.roles import Role
from app.errors import ModelAccessDenied


def caller(**fields: Any) -> Principal:
    return Principal(role=Role.KEY_ONLY, key_hash="k", **fields)


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
    assert allows(caller(models=grants), model) is is_allowed


def test_all_team_models_are_those_of_the_team() -> None:
    member = caller(models=("all-team-models",), team_id="t", team_models=("chat", "gpt-*"))
    assert [allows(member, model) for model in ("chat", "gpt-4o", "claude")] == [True, True, False]
    with pytest.raises(ModelAccessDenied) as refused:
        refuse_model_of_others(member, "claude")
    assert refused.value.type == "team_model_access_denied"


def test_key_team_and_user_must_all_agree() -> None:
    member = caller(models=("a", "b"), team_models=("b", "c"), user_models=("*",))
    assert [allows(member, model) for model in ("a", "b", "c")] == [False, True, False]


def test_an_access_group_stands_for_the_models_in_it() -> None:
    member = caller(models=("beta",))
    assert allows(member, "chat", frozenset({"beta", "other"}))
    assert not allows(member, "chat", frozenset({"other"}))


def test_member_and_organization_have_a_say_too() -> None:
    assert not allows(caller(member_models=("a",)), "b")
    assert not allows(caller(organization_models=("a",)), "b")
    with pytest.raises(ModelAccessDenied) as refused:
        refuse_model_of_others(caller(organization_models=("a",)), "b")
    assert refused.value.type == "org_model_access_denied"


def test_the_refusal_of_a_key_names_the_model() -> None:
    with pytest.raises(ModelAccessDenied) as refused:
        refuse_model_of_key(caller(models=("a",)), "b")
    assert (refused.value.type, refused.value.param, refused.value.status) == ("key_model_access_denied", "model", 403)
    assert "'b'" in refused.value.message
