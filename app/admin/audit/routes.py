"""Reading the audit log: who changed what, when, and on behalf of whom. For admins and admin viewers."""

from __future__ import annotations

from typing import Any

from quart import Blueprint
from tortoise.expressions import Q
from tortoise.queryset import QuerySet

from ...errors import NotFound
from ...models import AuditLog
from ...models.columns import json_value
from ...web.fields import Table, bad_request, identifier, range_edge, read_query, takes, text
from ..paging import order_of, page_field, read_capped_page, rows_of, size_field
from ..spend.daily_figures import Answer

blueprint = Blueprint("admin_audit", __name__)

_SORTS = ("updated_at", "changed_by", "changed_by_api_key", "action", "table_name", "object_id")
_EXACT = ("changed_by", "changed_by_api_key", "action", "table_name", "object_id")


_LIST: Table = {
    **dict.fromkeys(_EXACT, identifier()),
    # No longer than their columns: a database refuses to compare with more.
    "changed_by_api_key": identifier(64),
    "action": identifier(32),
    "table_name": identifier(64),
    "search": identifier(),
    "start_date": range_edge(is_end=False),
    "end_date": range_edge(is_end=True),
    "sort_by": text(),
    "sort_order": text(),
    "page": page_field(),
    "page_size": size_field(100),
}


@blueprint.get("/audit")
@takes(query=_LIST)
async def list_changes() -> Answer:
    """Changes, newest first; totals are counted up to 10,000."""
    asked = read_query(page=1, page_size=10, sort_by="updated_at", sort_order="desc")
    if asked["sort_by"] not in _SORTS:
        raise bad_request(f"sort_by must be one of {', '.join(_SORTS)}", "sort_by")
    if asked["sort_order"].lower() not in ("asc", "desc"):
        raise bad_request("sort_order must be asc or desc", "sort_order")
    order = order_of(asked["sort_by"], asked["sort_order"], "id")
    page = await read_capped_page(_query(asked), asked["page"], asked["page_size"], *order)
    return {
        "audit_logs": [_to_json(row) for row in page.rows],
        "total": page.total,
        "page": page.number,
        "page_size": page.size,
        "total_pages": page.total_pages,
        "total_is_capped": page.is_capped,
    }


def _query(asked: Answer) -> QuerySet[Any]:
    query = rows_of(AuditLog)
    for name in _EXACT:
        if asked[name]:
            query = query.filter(**{name: asked[name]})
    if asked["start_date"] is not None:
        query = query.filter(updated_at__gte=asked["start_date"])
    if asked["end_date"] is not None:
        query = query.filter(updated_at__lte=asked["end_date"])
    if asked["search"]:
        word = asked["search"]
        query = query.filter(Q(object_id__icontains=word) | Q(changed_by__icontains=word))
    return query


@blueprint.get("/audit/<audit_id>")
async def show_change(audit_id: str) -> Answer:
    """One change. Raises 404."""
    row = await AuditLog.get_or_none(id=audit_id[:64].replace("\x00", ""))
    if row is None:
        raise NotFound(f"Audit log with ID {audit_id[:64]} not found")
    return _to_json(row)


def _to_json(row: AuditLog) -> Answer:
    return {name: json_value(getattr(row, name)) for name in row._meta.fields_map}
