"""Calls and tokens of the whole instance per day and route, and calls that a limit refused. For admins and viewers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import Any

from quart import Blueprint

from ...services import services
from ...web.fields import Table, identifier, read_query, takes
from .daily_figures import Answer
from .global_spend import asked_days, instance_rows
from .visibility import Where, day, sums, usd

blueprint = Blueprint("admin_global_activity", __name__)

_RANGE: Table = {"start_date": day(), "end_date": day()}
_OF_GROUP: Table = {**_RANGE, "model_group": identifier()}
_MAX_MODELS = 10
_RATE_LIMITED = "429"
# Failures that one answer counts; they are found by index, newest first.
_MAX_FAILURES = 100_000
# Calls that one answer looks through for hits of the cache.
_MAX_CALLS = 100_000


@blueprint.get("/global/activity")
@takes(query=_RANGE)
async def calls_per_day() -> Answer:
    """Calls and tokens per day, oldest first."""
    return _summed(await _rows(asked_days(read_query()), "date"))


@blueprint.get("/global/activity/model")
@takes(query=_RANGE)
async def calls_per_model() -> list[Answer]:
    """The same for each of the ten models with most calls."""
    per_model: defaultdict[str, list[Answer]] = defaultdict(list)
    for row in await _rows(asked_days(read_query()), "date, model_group"):
        per_model[row["model_group"]].append(row)
    found = [{"model": name, **_summed(rows)} for name, rows in per_model.items()]
    return sorted(found, key=lambda entry: (-entry["sum_api_requests"], entry["model"]))[:_MAX_MODELS]


async def _rows(days: list[str], columns: str) -> list[Answer]:
    select = f"{columns}, SUM(api_requests) AS calls, SUM(prompt_tokens) + SUM(completion_tokens) AS tokens"
    rest = f"GROUP BY {columns} ORDER BY {columns}"
    return await sums(select, instance_rows(days), rest, table="daily_entity_spend")


def _summed(rows: list[Answer]) -> Answer:
    days = [
        {"date": _short(row["date"]), "api_requests": int(row["calls"]), "total_tokens": int(row["tokens"])}
        for row in rows
    ]
    return {
        "daily_data": days,
        "sum_api_requests": sum(entry["api_requests"] for entry in days),
        "sum_total_tokens": sum(entry["total_tokens"] for entry in days),
    }


def _short(iso: str) -> str:
    """2026-11-21 as the contract writes it: Nov 21."""
    return date.fromisoformat(iso).strftime("%b %d")


@blueprint.get("/global/activity/cache_hits")
@takes(query=_RANGE)
async def cached_tokens() -> Answer:
    """What providers served from their prompt caches, and the hits of our cache of answers, per model."""
    days = asked_days(read_query())
    hits = await _cache_hits(days)
    columns = "model_group, custom_llm_provider"
    select = (
        f"{columns}, SUM(api_requests) AS calls, SUM(prompt_tokens) AS prompt, "
        "SUM(cache_read_input_tokens) AS cached, {spend} AS spend"
    )
    rest = f"GROUP BY {columns} ORDER BY {columns}"
    rows = await sums(select, instance_rows(days), rest, table="daily_entity_spend")
    names = ("api_requests", "prompt_tokens", "cache_read_input_tokens")
    groups: list[Answer] = [
        {
            "model_group": row["model_group"],
            "custom_llm_provider": row["custom_llm_provider"],
            **{name: int(row[key]) for name, key in zip(names, ("calls", "prompt", "cached"), strict=True)},
            "cache_hits": hits.get((row["model_group"], row["custom_llm_provider"]), 0),
            "spend": usd(row["spend"]),
        }
        for row in rows
    ]
    totals = {name: sum(group[name] for group in groups) for name in (*names, "cache_hits")}
    return {"groups": groups, "totals": totals}


async def _cache_hits(days: Sequence[str]) -> dict[tuple[str, str], int]:
    """Per model and provider, among the newest calls of these days that one answer looks at."""
    where = Where([])
    _add_days(where, days)
    columns = "model_group, custom_llm_provider"
    inner = f"SELECT {columns}, cache_hit FROM spend_log {where.sql} ORDER BY start_time DESC LIMIT {_MAX_CALLS}"  # noqa: S608 (names of this file)
    sql = (
        f"SELECT {columns}, COUNT(*) AS number "  # noqa: S608 (names of this file)
        f"FROM ({inner}) AS newest WHERE cache_hit = 'True' GROUP BY {columns}"
    )
    rows = await services().database.fetch(sql, where.parameters)
    return {(row["model_group"], row["custom_llm_provider"]): int(row["number"]) for row in rows}


def _add_days(where: Where, days: Sequence[str]) -> None:
    """From the beginning of the first day to the end of the last one, in UTC; `days` come newest first."""
    first, last = datetime.fromisoformat(days[-1]), datetime.fromisoformat(days[0])
    where.add("start_time >= {}", datetime.combine(first, time(), UTC))
    where.add("start_time <= {}", datetime.combine(last, time.max, UTC))


# ---- refused by a rate limit ---------------------------------------------------------------------------------------


@blueprint.get("/global/activity/exceptions")
@takes(query=_OF_GROUP)
async def rate_limited_per_day() -> Answer:
    """Calls per day that ended with 429, of one model with `model_group`."""
    return _refusals((await _rate_limited(read_query())).get("", {}))


@blueprint.get("/global/activity/exceptions/deployment")
@takes(query=_OF_GROUP)
async def rate_limited_per_deployment() -> list[Answer]:
    """The same for each deployment that refused calls."""
    per_deployment = await _rate_limited(read_query(), column="api_base")
    return [{"api_base": name, **_refusals(days)} for name, days in sorted(per_deployment.items())]


async def _rate_limited(asked: Answer, column: str = "''") -> dict[str, dict[str, int]]:
    """Per value of `column` and day. Days are UTC."""
    where = Where(["status = 'failure'"])
    _add_days(where, asked_days(asked))
    if asked["model_group"]:
        where.add("model_group = {}", asked["model_group"])
    is_sqlite = services().database.is_sqlite
    code = "json_extract(metadata, '$.error_information.error_code')"
    date_ = "substr(start_time, 1, 10)"
    if not is_sqlite:
        code = "metadata -> 'error_information' ->> 'error_code'"
        date_ = "to_char(start_time AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    inner = f"SELECT {date_} AS day, COALESCE({column}, '') AS name, {code} AS code FROM spend_log {where.sql}"  # noqa: S608 (names of this file)
    sql = (
        "SELECT day, name, COUNT(*) AS number "  # noqa: S608 (names of this file)
        f"FROM ({inner} ORDER BY start_time DESC LIMIT {_MAX_FAILURES}) AS failed "
        f"WHERE code = '{_RATE_LIMITED}' GROUP BY day, name ORDER BY day, name"
    )
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for row in await services().database.fetch(sql, where.parameters):
        found[row["name"]][row["day"]] = int(row["number"])
    return found


def _refusals(days: dict[str, int]) -> dict[str, Any]:
    data = [{"date": _short(name), "num_rate_limit_exceptions": number} for name, number in sorted(days.items())]
    return {"daily_data": data, "sum_num_rate_limit_exceptions": sum(days.values())}


_NAMES = ("successful_requests", "failed_requests")


@blueprint.get("/gateway/daily/activity")
@takes(query=_RANGE)
async def gateway_activity() -> Answer:
    """Calls to models that succeeded and failed; management calls are not counted."""
    select = "date, endpoint, SUM(successful_requests) AS successful_requests, SUM(failed_requests) AS failed_requests"
    where = instance_rows(asked_days(read_query()))
    rows = await sums(select, where, "GROUP BY date, endpoint ORDER BY date, endpoint", table="daily_entity_spend")
    per_day, per_route = _counted(rows, "date"), _counted(rows, "endpoint")
    return {
        "total_successful_requests": sum(entry["successful_requests"] for entry in per_day.values()),
        "total_failed_requests": sum(entry["failed_requests"] for entry in per_day.values()),
        "by_date": [{"date": name, **counts} for name, counts in per_day.items()],
        "by_route": [{"category": "llm", "route": name, **counts} for name, counts in per_route.items()],
    }


def _counted(rows: list[Answer], column: str) -> dict[str, dict[str, int]]:
    found: defaultdict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(_NAMES, 0))
    for row in rows:
        for name in _NAMES:
            found[row[column]][name] += int(row[name] or 0)
    return found
