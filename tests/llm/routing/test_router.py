"""Which deployments a call may go to, in which order, and what routing learns from failures."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.deployments.deployment import Deployment, build_deployment
from app.errors import GatewayError, Unauthenticated, UpstreamError
from app.llm.routing.router import Router, RoutingRequest
from app.settings.routing import RoutingSettings


def deployments(*params: dict[str, Any]) -> list[Deployment]:
    """Named by number; `window` is the context window."""
    found = []
    for number, one in enumerate(params):
        info = {"id": str(number)} | ({"max_input_tokens": one.pop("window")} if "window" in one else {})
        found.append(build_deployment("chat", {"model": "openai/m", **one}, info, {}))
    return found


def router(**settings: Any) -> Router:
    return Router(RoutingSettings(**settings), lambda message: None)


def ids(levels: list[list[Deployment]]) -> list[list[str]]:
    return [[one.id for one in level] for level in levels]


def rest(routing: Router, *ids: str) -> None:
    for one in ids:
        routing.cooldowns.on_message(f"cooldown:{routing.cooldowns._clock() + 9.5}:{one}")


CHAT = RoutingRequest(group="chat")


# ---- levels --------------------------------------------------------------------------------------------------------


def test_without_an_order_all_are_one_level() -> None:
    assert ids(router().tiers(deployments({}, {}), CHAT)) == [["0", "1"]]


def test_orders_are_levels_and_those_without_come_last() -> None:
    group = deployments({"order": 2}, {}, {"order": 1}, {"order": 2})
    assert ids(router().tiers(group, CHAT)) == [["2"], ["0", "3"], ["1"]]


def test_who_rests_is_left_out() -> None:
    routing = router()
    rest(routing, "1")
    assert ids(routing.tiers(deployments({}, {}, {"order": 1}), CHAT)) == [["2"], ["0"]]


@pytest.mark.parametrize("count", [1, 2])
def test_when_all_rest_the_client_is_told_when_to_come_back(count: int) -> None:
    routing = router()
    rest(routing, "0", "1")
    with pytest.raises(UpstreamError) as refused:
        routing.tiers(deployments(*[{}] * count), CHAT)
    error = refused.value
    assert (error.status, error.type) == (429, "all_deployments_in_cooldown")
    assert error.headers == {"Retry-After": "10"}
    assert error.message.startswith("No deployments available for selected model, Try again in 10 seconds. ")
    assert "Passed model=chat. pre-call-checks=False, cooldown_list=['0'" in error.message


# ---- tags ----------------------------------------------------------------------------------------------------------

TAGGED = [{"tags": ["free", "eu"]}, {"tags": ["paid", "eu"]}, {"tags": ["default"]}, {}]


@pytest.mark.parametrize(
    ("tags", "match_any", "found"),
    [
        ((), True, ["2"]),
        (("free",), True, ["0"]),
        (("eu",), True, ["0", "1"]),
        (("free", "paid"), True, ["0", "1"]),
        (("eu", "paid"), False, ["1"]),
        (("free", "paid"), False, ["2"]),
        (("unknown",), True, ["2"]),
        (("eu", "!free"), True, ["1"]),
        (("&paid",), True, ["1"]),
        (("eu", "&free"), True, ["0"]),
        (("!default",), True, ["3"]),
    ],
)
def test_tags_choose_who_may_be_asked(tags: tuple[str, ...], match_any: bool, found: list[str]) -> None:
    routing = router(enable_tag_filtering=True, tag_filtering_match_any=match_any)
    group = deployments(*TAGGED)
    assert ids(routing.tiers(group, RoutingRequest(group="chat", tags=tags))) == [found]


def test_tags_mean_nothing_unless_they_are_turned_on() -> None:
    assert ids(router().tiers(deployments(*TAGGED), RoutingRequest(group="chat", tags=("free",)))) == [
        ["0", "1", "2", "3"]
    ]


def test_nobody_for_these_tags_is_401_also_for_a_single_deployment() -> None:
    routing = router(enable_tag_filtering=True)
    with pytest.raises(Unauthenticated) as refused:
        routing.tiers(deployments({"tags": ["paid"]}), RoutingRequest(group="chat", tags=("free",)))
    error = refused.value
    assert (error.status, error.type, error.param) == (401, "internal_server_error", None)
    assert error.message == (
        "Not allowed to access model due to tags configuration. Passed model=chat and tags=['free']"
    )


# ---- checks before a call ------------------------------------------------------------------------------------------


def test_a_prompt_goes_only_where_it_fits() -> None:
    routing = router(enable_pre_call_checks=True)
    group = deployments({"window": 100}, {"window": 1000}, {})
    assert ids(routing.tiers(group, RoutingRequest(group="chat", prompt_tokens=100))) == [["0", "1", "2"]]
    assert ids(routing.tiers(group, RoutingRequest(group="chat", prompt_tokens=101))) == [["1", "2"]]
    with pytest.raises(UpstreamError) as refused:
        routing.tiers(group[:2], RoutingRequest(group="chat", prompt_tokens=1001))
    assert (refused.value.status, refused.value.error_class) == (400, "ContextWindowExceededError")


def test_the_checks_are_off_by_default() -> None:
    assert router().tiers(deployments({"window": 1}), RoutingRequest(group="chat", prompt_tokens=99))


def test_one_whose_minute_is_used_up_is_passed_by_while_another_has_room() -> None:
    routing = router(enable_pre_call_checks=True)
    group = deployments({"rpm": 1}, {"rpm": 1})
    routing.load.begin("0")
    assert ids(routing.tiers(group, CHAT)) == [["1"]]
    routing.load.begin("1")
    assert ids(routing.tiers(group, CHAT)) == [["0", "1"]]


# ---- choosing ------------------------------------------------------------------------------------------------------


def test_nobody_is_asked_twice_and_nobody_who_rests() -> None:
    routing, level = router(), deployments({}, {}, {})
    rest(routing, "1")
    assert Counter(one.id for _ in range(50) if (one := routing.choose(level, {"0"}, CHAT))) == {"2": 50}
    assert routing.choose(level, {"0", "2"}, CHAT) is None
    assert not routing.all_cooling_down(level)
    rest(routing, "0", "2")
    assert routing.all_cooling_down(level)


@given(
    st.lists(st.sampled_from([None, 1, 2, 3]), min_size=1, max_size=6),
    st.sets(st.integers(0, 5)),
    st.lists(st.sampled_from(["free", "paid", "default"]), max_size=6),
    st.lists(st.sampled_from(["free", "!paid", "&free", "other"]), max_size=3),
)
def test_whatever_the_group_is_there_are_levels_or_a_refusal(
    orders: list[int | None], cooling_down: set[int], tags: list[str], asked: list[str]
) -> None:
    params = [
        ({} if order is None else {"order": order}) | ({"tags": [tags[number]]} if number < len(tags) else {})
        for number, order in enumerate(orders)
    ]
    group, routing = deployments(*params), router(enable_tag_filtering=True)
    rest(routing, *map(str, cooling_down))
    try:
        levels = routing.tiers(group, RoutingRequest(group="chat", tags=asked))
    except GatewayError as refused:
        assert refused.status in (401, 429)
        return
    found = [one for level in levels for one in level]
    assert all(levels) and len({one.id for one in found}) == len(found)
    assert {one.id for one in found}.isdisjoint(map(str, cooling_down))
    assert [one.order or 9 for one in found] == sorted(one.order or 9 for one in found)


# ---- learning ------------------------------------------------------------------------------------------------------


def test_mistakes_of_clients_do_not_add_up_to_an_outage() -> None:
    """One tenant that sends nonsense must not make a deployment rest for all."""
    routing, (one, _) = router(), deployments({}, {})
    for _ in range(50):
        routing.load.begin(one.id)
        assert routing.failed(one, UpstreamError("no", status=400), is_alone=False, has_fallback=False) == 0
    routing.load.begin(one.id)
    assert routing.failed(one, UpstreamError("no", status=500), is_alone=False, has_fallback=False) == 0
    assert routing.load.of(one.id).failures == 1


def test_a_limit_that_was_hit_makes_it_rest_and_the_other_one_serve() -> None:
    routing, group = router(), deployments({}, {})
    seconds = routing.failed(
        group[0], UpstreamError("no", status=429, retry_after=3), is_alone=False, has_fallback=False
    )
    assert seconds == 3
    assert ids(routing.tiers(group, CHAT)) == [["1"]]


def test_settings_change_while_running() -> None:
    routing, group = router(), deployments({"tags": ["paid"]})
    routing.reconfigure(RoutingSettings(enable_tag_filtering=True, disable_cooldowns=True))
    with pytest.raises(Unauthenticated):
        routing.tiers(group, CHAT)
    assert routing.failed(group[0], UpstreamError("no", status=429), is_alone=False, has_fallback=True) == 0
