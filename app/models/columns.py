"""Columns that several tables share, declared once so that they mean the same everywhere."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tortoise import fields


def money(**options: Any) -> fields.DecimalField[Any]:
    """USD, exact to a millionth of a millionth: NUMERIC on PostgreSQL, decimal text on SQLite."""
    return fields.DecimalField(max_digits=30, decimal_places=12, **options)


def spent() -> fields.DecimalField[Any]:
    """Money so far. Only the spend ledger and an explicit reset write it."""
    return money(default=Decimal(0))


def epoch() -> fields.IntField[Any]:
    """Counted up whenever `spend` starts anew, so that no process goes on from the sum before."""
    return fields.IntField(default=0, db_default=0)


def name(length: int = 255, **options: Any) -> fields.CharField[Any]:
    return fields.CharField(max_length=length, **options)


def json_list() -> fields.JSONField[list[Any]]:
    return fields.JSONField(default=list)


def json_object() -> fields.JSONField[dict[str, Any]]:
    return fields.JSONField(default=dict)


def json_value(value: Any) -> Any:
    """A column's value as the management API writes it: money is a JSON number, times are ISO 8601 in UTC."""
    if isinstance(value, Decimal):
        return float(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value
