"""Spend logs: one row per call, newest first and never without a bound."""

from __future__ import annotations

from asyncio import gather
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from quart import Blueprint, make_response
from quart.typing import ResponseReturnValue
from tortoise.expressions import Q

from ...auth.principal import Principal, current_principal
from ...models import SpendLog
from ...web.fields import Table, flag, identifier, read_query, takes, whole
from ..keys.access import refused
from ..paging import rows_of
from .daily_activity import users_scope
from .daily_rows import largest, sums_of_entities, sums_of_keys, totals
from .visibility import check_days, day, named_key, usd

blueprint = Blueprint("admin_spend_logs", __name__)

Answer = dict[str, Any]
MAX_ROWS = 1000
TRUNCATED_HEADER = "x-quarterdeck-truncated"
# Users and keys that each day of a range names, at most and at least.
_MAX_NAMES, _FEWEST_NAMES = 20_000, 20
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
@takes(query=_LOGS)
async def spend_logs() -> ResponseReturnValue:
    """Per day when a range is given and `summarize` is not false; else rows, newest first, at most `limit` (1000)."""
    asked = read_query(summarize=True, limit=MAX_ROWS)
    has_range = asked["start_date"] is not None or asked["end_date"] is not None
    if has_range:
        asked["start_date"], asked["end_date"] = check_days(asked["start_date"], asked["end_date"])
    if asked["api_key"]:
        asked["api_key"] = named_key(asked["api_key"])
    if has_range and asked["summarize"] and not asked["request_id"]:
        return await _per_day(asked)
    return await _newest_rows(asked)


async def _newest_rows(asked: Answer) -> ResponseReturnValue:
    query = rows_of(SpendLog).filter(visible(current_principal(), asked["user_id"]))
    for name in ("api_key", "request_id"):
        if asked[name]:
            query = query.filter(**{name: asked[name]})
    if asked["start_date"] is not None:
        query = query.filter(start_time__gte=_midnight(asked["start_date"]))
        query = query.filter(start_time__lt=_midnight(asked["end_date"] + timedelta(days=1)))
    rows = await query.order_by("-start_time", "-request_id").limit(asked["limit"] + 1)
    response = await make_response([shown(row) for row in rows[: asked["limit"]]])
    if len(rows) > asked["limit"]:
        response.headers[TRUNCATED_HEADER] = "true"
    return response


def shown(row: SpendLog) -> Answer:
    """Where a provider's target stands is for those who see all."""
    shown = row.to_json()
    return shown if current_principal().can_read_all else {**shown, "api_base": None}


def _midnight(of_day: date) -> datetime:
    return datetime.combine(of_day, time(), UTC)


def visible(principal: Principal, user_id: str | None) -> Q:
    """The rows that a caller may see. Raises 403 for somebody else's."""
    if principal.can_read_all:
        return Q(user=user_id) if user_id else Q()
    if user_id is not None and user_id != principal.user_id:
        raise refused("You are not authorized to see another user's spend")
    return Q(api_key=principal.key_hash) if principal.user_id is None else Q(user=principal.user_id)


async def _per_day(asked: Answer) -> ResponseReturnValue:
    """One object per day of the range, empty days included: totals, and sums per model, and of the largest users and
    keys (all of them, unless a header says otherwise).
    """
    scope = users_scope(asked)
    keys, users = await largest(scope)
    most = max(_FEWEST_NAMES, _MAX_NAMES // len(scope.days))
    days: dict[str, dict[str, defaultdict[str, Decimal]]] = {
        name: {group: defaultdict(Decimal) for group in ("total", "users", "models", "keys")}
        for name in reversed(scope.days)
    }
    for (name, model), sums in await totals(scope, ("date", "model")):
        days[name]["total"][""] += sums.spend
        days[name]["models"][model] += sums.spend
    of_keys, of_users = await gather(
        sums_of_keys(scope, keys.largest(most), ("date", "api_key")), sums_of_entities(scope, users.largest(most))
    )
    for group, found in (("keys", of_keys), ("users", of_users)):
        for (name, id), sums in found:
            days[name][group][id] = sums.spend
    response = await make_response([_summary(name, groups) for name, groups in days.items()])
    if keys.is_cut or len(keys.spend) > most:
        response.headers[TRUNCATED_HEADER] = "true"
    return response


def _summary(name: str, groups: Mapping[str, Mapping[str, Decimal]]) -> Answer:
    users, models, keys = ({key: usd(value) for key, value in groups[of].items()} for of in ("users", "models", "keys"))
    return {**keys, "startTime": name, "spend": usd(groups["total"].get("")), "users": users, "models": models}
