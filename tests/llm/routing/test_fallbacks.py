"""Which groups take over, and who chose them."""

from __future__ import annotations

from typing import Any

import pytest

from app.errors import UpstreamError
from app.llm.routing.fallbacks import FallbackPlan, fallbacks_for, has_special_fallbacks, possible_targets
from app.protocols.call_options import CallOptions
from app.settings.routing import RoutingSettings, fallback_groups, fallback_targets

DOWN = UpstreamError("no", status=500, error_class="InternalServerError")
TOO_LONG = UpstreamError("no", status=400, error_class="ContextWindowExceededError")
IMPROPER = UpstreamError("no", status=400, error_class="ContentPolicyViolationError")
USUAL = CallOptions()


def settings(**fields: Any) -> RoutingSettings:
    groups: dict[str, Any] = {
        name: fallback_groups(value) for name, value in fields.items() if name != "default_fallbacks"
    }
    return RoutingSettings(**groups, default_fallbacks=fallback_targets(fields.get("default_fallbacks", [])))


def names(found: FallbackPlan) -> list[str]:
    return [target.model for target in found.targets]


def test_a_group_s_own_fallbacks_come_before_those_of_all_and_the_default_ones() -> None:
    own = settings(fallbacks=[{"chat": ["a", "b"]}, {"*": ["c"]}], default_fallbacks=["d"])
    assert names(fallbacks_for(DOWN, "chat", USUAL, own)) == ["a", "b"]
    assert names(fallbacks_for(DOWN, "other", USUAL, own)) == ["c"]
    only_default = settings(default_fallbacks=["d"])
    assert names(fallbacks_for(DOWN, "chat", USUAL, only_default)) == ["d"]
    assert names(fallbacks_for(DOWN, "chat", USUAL, settings())) == []


def test_a_group_may_be_without_fallbacks_among_others_that_have_them() -> None:
    assert names(fallbacks_for(DOWN, "chat", USUAL, settings(fallbacks=[{"chat": []}], default_fallbacks=["d"]))) == []


@pytest.mark.parametrize(
    ("error", "name"), [(TOO_LONG, "context_window_fallbacks"), (IMPROPER, "content_policy_fallbacks")]
)
def test_a_reason_with_fallbacks_of_its_own_is_served_by_them_only(error: UpstreamError, name: str) -> None:
    general = {"fallbacks": [{"chat": ["a"]}, {"other": ["a"]}]}
    own = settings(**general, **{name: [{"chat": ["special"]}]})
    assert names(fallbacks_for(error, "chat", USUAL, own)) == ["special"]
    assert names(fallbacks_for(error, "other", USUAL, own)) == []
    assert names(fallbacks_for(DOWN, "chat", USUAL, own)) == ["a"]
    assert has_special_fallbacks(error, USUAL, own) and not has_special_fallbacks(DOWN, USUAL, own)
    # Unset, the reason is one among others.
    assert names(fallbacks_for(error, "chat", USUAL, settings(**general))) == ["a"]
    assert not has_special_fallbacks(error, USUAL, settings(**general))


def test_what_a_client_names_wins_and_is_known_to_be_the_client_s() -> None:
    configured = settings(fallbacks=[{"chat": ["a"]}], context_window_fallbacks=[{"chat": ["long"]}])
    own = CallOptions(fallbacks=fallback_targets(["mine"]))
    for error in (DOWN, TOO_LONG):
        found = fallbacks_for(error, "chat", own, configured)
        assert (names(found), found.is_client_supplied) == (["mine"], True)
    assert not fallbacks_for(DOWN, "chat", USUAL, configured).is_client_supplied
    assert not fallbacks_for(TOO_LONG, "chat", USUAL, configured).is_client_supplied


@pytest.mark.parametrize(
    ("error", "name"), [(TOO_LONG, "context_window_fallbacks"), (IMPROPER, "content_policy_fallbacks")]
)
def test_a_client_s_fallbacks_for_a_reason_are_the_client_s_too(error: UpstreamError, name: str) -> None:
    options = CallOptions(**{name: fallback_groups([{"chat": ["mine"]}])})  # type: ignore[arg-type]
    found = fallbacks_for(error, "chat", options, settings(fallbacks=[{"chat": ["a"]}]))
    assert (names(found), found.is_client_supplied) == (["mine"], True)
    assert not fallbacks_for(DOWN, "chat", options, settings(fallbacks=[{"chat": ["a"]}])).is_client_supplied


@pytest.mark.parametrize("error", [DOWN, TOO_LONG, IMPROPER])
def test_fallbacks_can_be_refused(error: UpstreamError) -> None:
    every = settings(
        fallbacks=[{"chat": ["a"]}],
        context_window_fallbacks=[{"chat": ["b"]}],
        content_policy_fallbacks=[{"chat": ["c"]}],
        default_fallbacks=["d"],
    )
    options = CallOptions(is_without_fallbacks=True, fallbacks=fallback_targets(["mine"]))
    assert names(fallbacks_for(error, "chat", options, every)) == []
    assert list(possible_targets("chat", options, every)) == []
    assert not has_special_fallbacks(error, options, every)


def test_who_would_take_over_is_known_before_anything_fails() -> None:
    every = settings(fallbacks=[{"chat": ["a"]}], default_fallbacks=["d"])
    assert [one.model for one in possible_targets("chat", USUAL, every)] == ["a"]
    assert [one.model for one in possible_targets("other", USUAL, every)] == ["d"]
    assert possible_targets("chat", CallOptions(fallbacks=()), every) == ()
