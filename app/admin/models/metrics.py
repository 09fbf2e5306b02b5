"""How models did lately, from the spend log: of at most the newest 50,000 calls of the days that were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any

from quart import Blueprint

from ...security.credentials import key_hash_of
from ...services import services
from ...web.fields import Table, identifier, moment, read_query, takes

blueprint = Blueprint("admin_model_metrics", __name__)

Answer = dict[str, Any]
_CALLS_LOOKED_AT = 50_000
_DEFAULT_DAYS = 30
_SLOW_MS = 60_000
_MAX_ROWS = 2_000
_ASKED: Table = {
    "_selected_model_group": identifier(),
    "model_group": identifier(),
    "startTime": moment(),
    "endTime": moment(),
    "api_key": identifier(),
    "customer": identifier(),
}


async def _grouped(asked: Mapping[str, Any], select: str, rest: str, condition: str = "1 = 1") -> list[Answer]:
    """Rows of `select … rest` over the newest calls. `condition` is SQL of ours, what the caller sent is bound."""
    today = datetime.now(UTC).date()
    first = asked["startTime"] or datetime.combine(today - timedelta(days=_DEFAULT_DAYS), time(), UTC)
    last = asked["endTime"] or datetime.now(UTC)
    parameters: list[Any] = [first, last]
    conditions = [condition]
    given = {
        "model_group": asked["_selected_model_group"] or asked["model_group"],
        "api_key": key_hash_of(asked["api_key"]) if asked["api_key"] else None,
        "end_user": asked["customer"],
    }
    for column, value in given.items():
        if value is not None:
            parameters.append(value)
            conditions.append(f"{column} = ${len(parameters)}")
    # The bound stands below the conditions: a rare model would otherwise be looked for in the whole table.
    sql = (
        f"SELECT {select} FROM (SELECT * FROM spend_log WHERE start_time >= $1 AND start_time <= $2 "  # noqa: S608
        f"ORDER BY start_time DESC LIMIT {_CALLS_LOOKED_AT}) AS newest "
        f"WHERE {' AND '.join(conditions)} {rest} LIMIT {_MAX_ROWS}"
    )
    return await services().database.fetch(sql, parameters)


def _day() -> str:
    return "substr(start_time, 1, 10)" if _is_sqlite() else "to_char(start_time AT TIME ZONE 'UTC', 'YYYY-MM-DD')"


def _is_sqlite() -> bool:
    return services().database.is_sqlite


def _first_token_seconds() -> str:
    if _is_sqlite():
        return "(julianday(completion_start_time) - julianday(start_time)) * 86400.0"
    return "EXTRACT(EPOCH FROM completion_start_time - start_time)::float"


def _per_day(rows: list[Answer]) -> Answer:
    """One object per day with a number for each target, and the names of all targets."""
    days: dict[str, Answer] = {}
    for row in rows:
        days.setdefault(row["day"], {"date": row["day"]})[_target(row)] = round(float(row["value"]), 6)
    return {"data": list(days.values()), "all_api_bases": sorted({_target(row) for row in rows})}


def _target(row: Answer) -> str:
    return str(row["api_base"] or row["model"] or "unknown")


@blueprint.get("/model/metrics")
@takes(query=_ASKED)
async def model_metrics() -> Answer:
    """Mean seconds per answered token, for each day and target."""
    seconds = "AVG(request_duration_ms / 1000.0 / completion_tokens)"
    rows = await _grouped(
        read_query(),
        f"{_day()} AS day, api_base, MAX(model) AS model, {seconds} AS value",
        f"GROUP BY {_day()}, api_base ORDER BY 1, 2",
        "status = 'success' AND completion_tokens > 0",
    )
    return _per_day(rows)


@blueprint.get("/model/streaming_metrics")
@takes(query=_ASKED)
async def streaming_metrics() -> Answer:
    """Mean seconds to the first token of a stream, for each day and target."""
    rows = await _grouped(
        read_query(),
        f"{_day()} AS day, api_base, MAX(model) AS model, AVG({_first_token_seconds()}) AS value",
        f"GROUP BY {_day()}, api_base ORDER BY 1, 2",
        "status = 'success' AND completion_start_time IS NOT NULL AND completion_start_time < end_time",
    )
    return _per_day(rows)


@blueprint.get("/model/metrics/slow_responses")
@takes(query=_ASKED)
async def slow_responses() -> list[Answer]:
    """For each target: calls, and how many of them took more than a minute."""
    slow = f"SUM(CASE WHEN request_duration_ms >= {_SLOW_MS} THEN 1 ELSE 0 END)"
    rows = await _grouped(
        read_query(),
        f"api_base, MAX(model) AS model, COUNT(*) AS calls, {slow} AS slow",
        "GROUP BY api_base ORDER BY 4 DESC, 1",
        "status = 'success'",
    )
    return [
        {"api_base": _target(row), "total_count": int(row["calls"]), "slow_count": int(row["slow"])} for row in rows
    ]


@blueprint.get("/model/metrics/exceptions")
@takes(query=_ASKED)
async def exceptions() -> Answer:
    """For each model: how often which class of error ended a call."""
    if _is_sqlite():
        kind = "json_extract(metadata, '$.error_information.error_class')"
    else:
        kind = "metadata -> 'error_information' ->> 'error_class'"
    rows = await _grouped(
        read_query(),
        f"model_group, api_base, {kind} AS kind, COUNT(*) AS calls",
        f"GROUP BY model_group, api_base, {kind} ORDER BY 4 DESC, 1",
        "status = 'failure'",
    )
    models: dict[str, Answer] = {}
    for row in rows:
        name = "-".join(str(part) for part in (row["model_group"], row["api_base"]) if part) or "unknown"
        models.setdefault(name, {"model": name})[row["kind"] or "Unknown"] = int(row["calls"])
    return {"data": list(models.values()), "exception_types": sorted({row["kind"] or "Unknown" for row in rows})}
