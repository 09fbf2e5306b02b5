"""The rules of new keys: what the configuration may say, and what it then does."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from app.admin.keys.policy import (
    Generation,
    admits,
    exceeds,
    key_ceilings,
    key_defaults,
    key_generation,
    missing_field,
    with_ceilings,
)


def test_defaults_are_fields_of_a_new_key() -> None:
    assert key_defaults({"max_budget": 5, "duration": "30d"}) == {"max_budget": 5, "duration": "30d"}


@pytest.mark.parametrize("value", [5, ["max_budget"], {"key": "sk-x"}, {"duration": "5x"}, {1: 2}])
def test_wrong_defaults_are_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        key_defaults(value)


def test_ceilings_are_exact_numbers_and_durations() -> None:
    assert key_ceilings({"max_budget": 0.1, "duration": "30d", "rpm_limit": None}) == {
        "max_budget": Decimal("0.1"),
        "duration": "30d",
    }


@pytest.mark.parametrize("value", ["x", {"models": 1}, {"max_budget": "much"}, {"max_budget": True}, {"duration": "x"}])
def test_wrong_ceilings_are_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        key_ceilings(value)


def test_rules_say_who_may_make_which_key() -> None:
    rules = key_generation(
        {
            "team_key_generation": {"allowed_team_member_roles": ["admin"], "required_params": ["tags"]},
            "personal_key_generation": {"allowed_user_roles": ["proxy_admin"]},
        }
    )
    assert rules["team_key_generation"] == Generation(("admin",), ("tags",))
    assert rules["personal_key_generation"] == Generation(("proxy_admin",))
    assert admits(rules["team_key_generation"], ["admin"]) and not admits(rules["team_key_generation"], ["user"])
    assert admits(Generation(), ["anybody"]) and not admits(Generation(()), ["anybody"])
    assert missing_field(Generation(required=("tags",)), {"tags": []}) == "tags"
    assert missing_field(Generation(required=("tags",)), {"tags": ["a"]}) is None


@pytest.mark.parametrize("value", [{"nobody": {}}, {"team_key_generation": {"allowed_team_member_roles": "admin"}}])
def test_wrong_rules_are_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        key_generation(value)


def test_what_is_above_a_ceiling_is_refused() -> None:
    ceilings = key_ceilings({"max_budget": 10, "duration": "30d", "rpm_limit": 5})
    for name, asked in (("max_budget", Decimal("10.01")), ("duration", "1mo"), ("rpm_limit", 6)):
        with pytest.raises(ValueError) as refusal:
            with_ceilings({name: asked}, ceilings, is_new=False)
        assert refusal.value.args[0] == name
    assert with_ceilings({"max_budget": Decimal(10)}, ceilings, is_new=False) == {"max_budget": Decimal(10)}


def test_unlimited_becomes_the_ceiling() -> None:
    ceilings = key_ceilings({"max_budget": 10, "duration": "30d", "rpm_limit": 5})
    assert with_ceilings({}, ceilings, is_new=True) == {"max_budget": Decimal(10), "duration": "30d", "rpm_limit": 5}
    assert with_ceilings({}, ceilings, is_new=False) == {}
    assert with_ceilings({"duration": "-1", "rpm_limit": None}, ceilings, is_new=False) == {
        "duration": "30d",
        "rpm_limit": 5,
    }


def test_lengths_of_time_are_compared_as_such() -> None:
    assert exceeds("duration", "25h", "1d")
    assert not exceeds("duration", "24h", "1d")
    assert not exceeds("duration", "no duration", "1d")
    assert exceeds("budget_duration", "999999999w", "1mo")
