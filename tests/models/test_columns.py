"""The values of columns as the management API writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from app.models.columns import json_value


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Decimal("12.5"), 12.5),
        (datetime(2020, 2, 29, 12, tzinfo=UTC), "2020-02-29T12:00:00+00:00"),
        ({"a": [1]}, {"a": [1]}),
        (None, None),
        (7, 7),
    ],
)
def test_money_is_a_number_and_a_time_is_iso_8601(value: Any, written: Any) -> None:
    assert json_value(value) == written
    assert type(json_value(value)) is type(written)
