"""Spend logs: one row per call, newest first and never without a bound."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from quart import Blueprint, make_response
from quart.typing import ResponseReturnValue
from tortoise.expressions import Q
from tortoise.queryset import QuerySet

from ..auth.credentials import key_hash_of
from ..auth.principal import Principal, current_principal
from ..errors import InvalidRequest
from ..models import SpendLog, VirtualKey
from .body import Field, Table, WrongValue, bad_request, flag, identifier, money, read_query, text, whole
from .key_access import is_team_admin, refused
from .paging import order_of, page_field, read_page, rows_of, size_field
from .spend_scope import Where, check_days, day, own_only, sums, usd

blueprint = Blueprint("admin_spend_logs", __name__)

Answer = dict[str, Any]
MOST_ROWS = 1000
TRUNCATED_HEADER = "x-quarterdeck-truncated"
_MOST_COUNTED = 100_000
_SORTS = {
    "startTime": "start_time",
    "endTime": "end_time",
    "spend": "spend",
    "total_tokens": "total_tokens",
    "request_duration_ms": "request_duration_ms",
    "model": "model",
}
_LOGS: Table = {
    "api_key": identifier(),
    "user_id": identifier(),
    "request_id": identifier(128),
    "start_date": day(),
    "end_date": day(),
    "summarize": flag(),
    "limit": whole(1, 10_000),
}


@blueprint.get("/spend/logs")
async def spend_logs() -> ResponseReturnValue:
    """Per day when a range is given and `summarize` is not false; else rows, newest first, at most `limit` (1000)."""
    asked = read_query(_LOGS, summarize=True, limit=MOST_ROWS)
    has_range = asked["start_date"] is not None or asked["end_date"] is not None
    if has_range:
        asked["start_date"], asked["end_date"] = check_days(asked["start_date"], asked["end_date"])
    if asked["api_key"]:
        asked["api_key"] = _api_key(asked["api_key"])
    if has_range and asked["summarize"] and not asked["request_id"]:
        return await _per_day(asked)
    return await _newest_rows(asked)


def _api_key(given: str) -> str:
    """Logs name a key by its hash, and the master key by a word."""
    return key_hash_of(given) if given.startswith("sk-") else given[:64]


async def _newest_rows(asked: Answer) -> ResponseReturnValue:
    query = rows_of(SpendLog).filter(_visible(current_principal(), asked["user_id"]))
    for name in ("api_key", "request_id"):
        if asked[name]:
            query = query.filter(**{name: asked[name]})
    if asked["start_date"] is not None:
        query = query.filter(start_time__gte=_midnight(asked["start_date"]))
        query = query.filter(start_time__lt=_midnight(asked["end_date"] + timedelta(days=1)))
    rows = await query.order_by("-start_time", "-request_id").limit(asked["limit"] + 1)
    response = await make_response([_shown(row) for row in rows[: asked["limit"]]])
    if len(rows) > asked["limit"]:
        response.headers[TRUNCATED_HEADER] = "true"
    return response


def _shown(row: SpendLog) -> Answer:
    """Where a provider's target stands is for those who see all."""
    wire = row.as_wire()
    return wire if current_principal().can_read_all else {**wire, "api_base": None}


def _midnight(of_day: date) -> datetime:
    return datetime.combine(of_day, time(), UTC)


def _visible(principal: Principal, user_id: str | None) -> Q:
    if principal.can_read_all:
        return Q(user=user_id) if user_id else Q()
    if user_id is not None and user_id != principal.user_id:
        raise refused("You are not authorized to see another user's spend")
    return Q(api_key=principal.key_hash) if principal.user_id is None else Q(user=principal.user_id)


async def _per_day(asked: Answer) -> list[Answer]:
    """One object per day of the range, empty days included: totals, and sums per user, model and key."""
    where = own_only(current_principal(), Where(), user_id=asked["user_id"], user_column="user_id")
    where.add("date >= {}", asked["start_date"].isoformat()).add("date <= {}", asked["end_date"].isoformat())
    if asked["api_key"]:
        where.add("api_key = {}", asked["api_key"])
    columns = "date, user_id, model, api_key"
    rows = await sums(f"{columns}, {{spend}} AS spend", where, f"GROUP BY {columns}")
    days: dict[str, dict[str, dict[str, Decimal]]] = {}
    current = asked["start_date"]
    while current <= asked["end_date"]:
        days[current.isoformat()] = {"total": {}, "users": {}, "models": {}, "keys": {}}
        current += timedelta(days=1)
    for row in rows:
        groups = days[row["date"]]
        names = {"total": "", "users": row["user_id"], "models": row["model"], "keys": row["api_key"]}
        for group, name in names.items():
            groups[group][name] = groups[group].get(name, Decimal(0)) + Decimal(str(row["spend"]))
    return [_summary(name, groups) for name, groups in days.items()]


def _summary(name: str, groups: dict[str, dict[str, Decimal]]) -> Answer:
    users, models, keys = ({key: usd(value) for key, value in groups[of].items()} for of in ("users", "models", "keys"))
    return {**keys, "startTime": name, "spend": usd(groups["total"].get("")), "users": users, "models": models}


def _time_of_day(is_end: bool) -> Field:
    """`YYYY-MM-DD HH:MM:SS` in UTC; a day alone is its first moment, or its last as the end of a range."""

    def read(value: Any) -> datetime:
        try:
            found = datetime.fromisoformat(str(value))
        except ValueError:
            raise WrongValue("This must be a time as 2026-11-21 00:00:00", "datetime_parsing") from None
        if is_end and len(str(value)) <= 10:
            found += timedelta(days=1, microseconds=-1)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)

    return Field(read)


# Query parameter -> the column that must equal it.
_EXACT = {
    "api_key": "api_key",
    "request_id": "request_id",
    "session_id": "session_id",
    "team_id": "team_id",
    "model": "model",
    "model_id": "model_id",
    "model_group": "model_group",
    "end_user": "end_user",
    "status_filter": "status",
    "cache_hit_filter": "cache_hit",
}
_TABLE: Table = {
    "start_date": _time_of_day(False),
    "end_date": _time_of_day(True),
    **dict.fromkeys(("user_id", "key_alias", "search", *_EXACT), identifier()),
    "request_id": identifier(128),
    "status_filter": identifier(16),
    "cache_hit_filter": identifier(16),
    "min_spend": money(),
    "max_spend": money(),
    "sort_by": text(),
    "sort_order": text(),
    "page": page_field(),
    "page_size": size_field(1000),
}


@blueprint.get("/spend/logs/ui")
@blueprint.get("/spend/logs/v2")
async def spend_logs_table() -> Answer:
    asked = read_query(_TABLE, page=1, page_size=50, sort_order="desc")
    if asked["start_date"] is None or asked["end_date"] is None:
        raise InvalidRequest("Start date and end date are required", type="bad_request", param="None")
    if asked["sort_by"] not in (None, *_SORTS):
        raise bad_request(f"sort_by must be one of {', '.join(_SORTS)}", "sort_by")
    query = await _filtered(current_principal(), asked)
    order = order_of(_SORTS[asked["sort_by"] or "startTime"], asked["sort_order"], "request_id")
    page = await read_page(query, asked["page"], asked["page_size"], *order, most_counted=_MOST_COUNTED)
    return {
        "data": [_shown(row) for row in page.rows],
        "total": page.total,
        "page": page.number,
        "page_size": page.size,
        "total_pages": page.total_pages,
        "total_is_capped": page.is_capped,
    }


async def _filtered(principal: Principal, asked: Answer) -> QuerySet[Any]:
    query = rows_of(SpendLog).filter(start_time__gte=asked["start_date"], start_time__lte=asked["end_date"])
    if asked["api_key"]:
        asked["api_key"] = _api_key(asked["api_key"])
    query = query.filter(await _visible_in_table(principal, asked))
    for name, column in _EXACT.items():
        if asked[name]:
            query = query.filter(**{column: asked[name]})
    if asked["key_alias"]:
        keys = VirtualKey.filter(key_alias__icontains=asked["key_alias"]).limit(1000)
        query = query.filter(api_key__in=[key.token async for key in keys])
    if asked["search"]:
        word = asked["search"]
        query = query.filter(
            Q(request_id__startswith=word) | Q(model__icontains=word) | Q(user=word) | Q(end_user=word)
        )
    if asked["min_spend"] is not None:
        query = query.filter(spend__gte=asked["min_spend"])
    if asked["max_spend"] is not None:
        query = query.filter(spend__lte=asked["max_spend"])
    return query


async def _visible_in_table(principal: Principal, asked: Answer) -> Q:
    """Own rows; an admin of the team that was asked for sees those of the team."""
    is_of_team = asked["team_id"] and principal.user_id and not principal.can_read_all
    if is_of_team and await is_team_admin(principal, asked["team_id"]):
        return Q(team_id=asked["team_id"])
    return _visible(principal, asked["user_id"])
