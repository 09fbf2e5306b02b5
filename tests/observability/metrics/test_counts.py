"""Cells: what is summed, and that nothing of it grows without end."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from app.observability.metrics.counts import MAX_CELLS, BudgetFact, Cell, DeploymentCell, Totals, observe

BOUNDS = (1.0, 5.0)


def test_a_value_on_a_bound_counts_below_it_as_prometheus_means_le() -> None:
    histogram: list[float] = []
    for value in (0.5, 1.0, 1.1, 5.0, 100.0):
        histogram = observe(histogram, BOUNDS, value)
    assert histogram == [2, 2, 1, 107.6]


def test_totals_of_two_processes_add_up() -> None:
    one = Totals(
        cells={("chat",): Cell(requests=1, spend=Decimal("0.1"), latency=[1, 0, 0, 0.5])},
        deployments={"a": DeploymentCell(successes=1, failures={"500 X": 1}, failed_at=5.0)},
        fallbacks={("a", "b", ""): 1},
        gauges={"running": 1.0},
        budgets={("key", "k"): BudgetFact("", Decimal(1), Decimal(0), 0.0, at=2.0)},
    )
    other = msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Totals)
    other.cells["more",] = Cell(requests=7)
    other.deployments["a"].remaining_requests, other.deployments["a"].remaining_at = 7, 9.0
    other.budgets["key", "k"].spend, other.budgets["key", "k"].at = Decimal("0.5"), 3.0
    one.add(other)
    assert one.cells["chat",] == Cell(requests=2, spend=Decimal("0.2"), latency=[2, 0, 0, 1.0])
    assert one.cells["more",].requests == 7
    assert one.deployments["a"] == DeploymentCell(
        successes=2, failures={"500 X": 2}, failed_at=5.0, remaining_requests=7, remaining_at=9.0
    )
    assert one.fallbacks == {("a", "b", ""): 2} and one.gauges == {"running": 2.0}
    assert one.budgets["key", "k"].spend == Decimal("0.5"), "the newest finding counts"


def test_callers_are_folded_before_models() -> None:
    totals, labels = Totals(), ("requested_model", "end_user")
    for n in range(MAX_CELLS):
        totals.cell(("chat", f"user-{n}"), labels)
    assert totals.cell(("chat", "one-more"), labels) is totals.cells["chat", "other"]
    assert totals.cell(("new-model", "one-more"), labels) is totals.cells["new-model", "other"]
    for n in range(MAX_CELLS):
        totals.cell((f"model-{n}", "x"), labels)
    assert len(totals.cells) <= MAX_CELLS + MAX_CELLS // 10 + 1
    assert ("other", "other") in totals.cells and totals.folded == MAX_CELLS + 2


def test_deployments_and_fallbacks_are_bounded_too() -> None:
    totals = Totals()
    for n in range(3000):
        totals.deployment(f"id-{n}").successes += 1
        totals.fell_back(f"a-{n}", "b", "")
    assert len(totals.deployments) == 1001 and totals.deployments["other"].successes == 2000
    assert len(totals.fallbacks) == 1001 and sum(totals.fallbacks.values()) == 3000


def test_a_long_label_value_is_cut_and_stays_one_cell() -> None:
    totals = Totals()
    assert totals.cell(("x" * 5000,), ("requested_model",)) is totals.cell(("x" * 5000,), ("requested_model",))
    ((name,),) = totals.cells
    assert len(name) == 200
