"""The text format of Prometheus: names, escaping, numbers."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest

from app.observability.metrics.exposition import lines, number


def test_a_counter_has_its_suffix_once_and_one_head() -> None:
    text = "".join(lines("calls", "counter", "Calls made", [({"model": "a"}, 2), ({"model": "b"}, 3)]))
    assert text == (
        "# HELP calls_total Calls made\n# TYPE calls_total counter\n"
        'calls_total{model="a"} 2\ncalls_total{model="b"} 3\n'
    )
    assert "".join(lines("calls_total", "counter", "Calls made", [({}, 1)])).endswith("\ncalls_total 1\n")


def test_a_metric_without_samples_is_not_there() -> None:
    assert not list(lines("calls", "gauge", "Calls", []))


def test_an_empty_label_is_left_out_and_a_value_cannot_end_its_quotes() -> None:
    sample = ({"team": "", "model": 'a"b\\c\nd'}, 1)
    assert list(lines("calls", "gauge", "Calls", [sample]))[-1] == 'calls{model="a\\"b\\\\c\\nd"} 1\n'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.inf, "+Inf"),
        (5.0, "5"),
        (0.25, "0.25"),
        (0.1 + 0.2, "0.3"),
        (Decimal("0.00000013"), "0.00000013"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.000"), "0"),
        (12, "12"),
    ],
)
def test_a_number_is_as_short_as_it_can_be_and_never_in_powers_of_ten(value: float | Decimal, text: str) -> None:
    assert number(value) == text
