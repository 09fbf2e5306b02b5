"""Lists in pages: filtered, sorted and cut by the database, with the contract's counters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tortoise.models import Model
from tortoise.queryset import QuerySet

from ..web.fields import Field, whole


def page_field() -> Field:
    """Pages count from 1. Far pages cost the database, so they end at a million."""
    return whole(lowest=1, highest=1_000_000)


def size_field(most: int = 100) -> Field:
    return whole(lowest=1, highest=most)


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[Any]
    total: int
    number: int
    size: int
    is_capped: bool = False

    @property
    def total_pages(self) -> int:
        return -(-self.total // self.size)


async def read_page(query: QuerySet[Any], number: int, size: int, *order: str) -> Page:
    """One page of a query; past the end it is empty, with the right totals. `order` must end with a unique column.

    It counts every row; tables that grow without end are paged by `read_capped_page`.
    """
    total = await query.count()
    offset = (number - 1) * size
    rows = await query.order_by(*order).offset(offset).limit(size) if offset < total else []
    return Page(rows, total, number, size)


def order_of(column: str, direction: str | None, unique: str) -> tuple[str, ...]:
    sign = "-" if (direction or "desc").lower() == "desc" else ""
    return (f"{sign}{column}",) if column == unique else (f"{sign}{column}", f"{sign}{unique}")


def rows_of(model: type[Model]) -> QuerySet[Any]:
    """All rows of a table, to be narrowed down."""
    return model.all()
