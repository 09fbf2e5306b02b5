"""Sums as days: what each breakdown holds, and which keys it names."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from app.admin.spend.daily_figures import COUNTS, Figures, Metrics, add_to, days_to_json, totals_of

ONE = Metrics(Decimal("0.1"), 10, 5, 1, 2, 3, 4, 7, 250)
TWO = Metrics(Decimal("0.2"), 20, 10, 2, 4, 6, 8, 14, 500)
NAMES = {"key_alias": "busy", "key_exists": True}


def _decoded(answer: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(answer))


def test_metrics_are_written_as_the_contract_has_them() -> None:
    assert tuple(name for name in _decoded(ONE.to_json()) if name in Metrics.__struct_fields__[1:]) == COUNTS
    assert _decoded(ONE.to_json()) == {
        "spend": 0.1,
        "flat_cost": 0,
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "cache_read_input_tokens": 1,
        "cache_creation_input_tokens": 2,
        "compression_saved_tokens": 0,
        "compression_savings_spend": 0,
        "prompt_caching_savings_spend": 0,
        "gateway_injected_caching_savings_spend": 0,
        "autorouter_savings_spend": 0,
        "total_tokens": 15,
        "successful_requests": 3,
        "failed_requests": 4,
        "api_requests": 7,
        "total_response_time_ms": 250,
        "timed_requests": 7,
    }


def test_sums_are_exact_in_every_field_and_leave_their_parts_alone() -> None:
    assert ONE.plus(TWO) == Metrics(Decimal("0.3"), 30, 15, 3, 6, 9, 12, 21, 750)
    groups = {"a": ONE}
    add_to(groups, "a", TWO)
    add_to(groups, "b", TWO)
    assert (groups["a"].spend, groups["b"], ONE.spend) == (Decimal("0.3"), TWO, Decimal("0.1"))


def test_totals_have_a_name_for_each_metric() -> None:
    totals = totals_of(ONE)
    assert (totals["total_spend"], totals["total_tokens"], totals["total_flat_cost"]) == (0.1, 15, 0)
    assert totals["total_response_time_ms"] == 250
    assert not [name for name in totals if not name.startswith("total_")]


def test_keys_outside_of_groups_have_their_sums_and_no_more() -> None:
    figures = Figures(
        totals=[
            (("d1", "m1", "g", "p", ""), ONE),
            (("d1", "m2", "g", "p", ""), TWO),
            (("d2", "m1", "g", "p", ""), ONE),
        ],
        keys=[(("d1", "k2"), ONE)],
        keys_in_groups=[(("d1", "k1", "m1", "g", "p", ""), ONE), (("d1", "k1", "m2", "g", "p", ""), TWO)],
        keys_in_entities=[(("d1", "k1", "e1"), ONE), (("d1", "k1", "hidden"), TWO)],
        entities=[(("d1", "e1"), ONE)],
        key_names={"k1": NAMES},
        entity_names={"e1": {"alias": "Carol"}},
    )
    days, total = days_to_json(["d2", "d1", "d0"], figures)
    assert total == ONE.plus(TWO).plus(ONE)
    later, first, empty = _decoded(days)
    breakdown = first["breakdown"]
    assert (later["metrics"]["spend"], first["metrics"]["spend"], empty["metrics"]["spend"]) == (0.1, 0.3, 0.0)
    assert {key: entry["metrics"]["spend"] for key, entry in breakdown["api_keys"].items()} == {"k1": 0.3, "k2": 0.1}
    assert [breakdown["api_keys"][key]["metadata"] for key in ("k1", "k2")] == [NAMES, {}]
    assert {name: entry["metrics"]["spend"] for name, entry in breakdown["models"].items()} == {"m1": 0.1, "m2": 0.2}
    assert breakdown["model_groups"]["g"]["api_key_breakdown"]["k1"]["metrics"]["spend"] == 0.3
    assert list(breakdown["models"]["m2"]["api_key_breakdown"]) == ["k1"]
    assert (breakdown["endpoints"], breakdown["mcp_servers"]) == ({}, {})
    assert breakdown["entities"]["e1"]["metadata"] == {"alias": "Carol"}
    assert breakdown["entities"]["e1"]["api_key_breakdown"]["k1"]["metrics"]["spend"] == 0.1
    assert list(breakdown["entities"]) == ["e1"]
    assert later["breakdown"]["api_keys"] == {}
