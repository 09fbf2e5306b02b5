"""Lists in pages: filtered, sorted and cut by the database, with the contract's counters.

Tables that may hold a million rows are capped: whoever pages on reaches all of them, nobody waits for a count.
"""

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


_MAX_COUNTED = 10_000


async def read_capped_page(
    query: QuerySet[Any], number: int, size: int, *order: str, most_counted: int = _MAX_COUNTED
) -> Page:
    """One page of a query, whose total is exact up to `most_counted` rows.

    Beyond that `is_capped` is true, and the total says that there is a next page as long as there is one. `order`
    must end with a unique column.
    """
    offset = (number - 1) * size
    total = await _count(query, most_counted + 1)
    if total <= most_counted:
        rows = await query.order_by(*order).offset(offset).limit(size) if offset < total else []
        return Page(rows, total, number, size)
    # One more than asked for tells whether there is a next page.
    rows = await query.order_by(*order).offset(offset).limit(size + 1)
    reached = offset + len(rows) if rows else 0
    return Page(rows[:size], max(most_counted, reached), number, size, is_capped=True)


async def _count(query: QuerySet[Any], most: int) -> int:
    """How many rows match, at most `most`: the database stops there. The ORM would count them all first."""
    meta = query.model._meta
    inner = query.limit(most).values_list(meta.pk_attr, flat=True)
    inner.sql()  # builds `inner.query`
    statement, parameters = inner.query.get_parameterized_sql()
    # The statement is the ORM's own; what a caller sent is in `parameters`.
    counting = f"SELECT COUNT(*) AS counted FROM ({statement}) AS matches"  # noqa: S608
    rows = await meta.db.execute_query_dict(counting, parameters)
    return int(rows[0]["counted"])
