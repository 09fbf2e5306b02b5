"""The table of calls: filtered, sorted, in pages, by session; and what is kept of one call.

Some filters have an index (time, key, user, team, end user, session, request, failures). The others, and sorting by
anything but time, look at the newest calls that the indexed ones leave, at most `_MAX_EXAMINED`; an answer that was
cut this way says `total_is_capped` and `examined_since`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from quart import Blueprint

from ...auth.principal import Principal, current_principal
from ...errors import InvalidRequest
from ...models import SpendLog, VirtualKey
from ...services import services
from ...web.fields import Table, bad_request, flag, identifier, money, range_edge, read_query, takes, text
from ..keys.access import is_team_admin, refused
from ..paging import page_field, size_field
from .logs import shown, visible
from .visibility import Where, named_key

blueprint = Blueprint("admin_spend_table", __name__)

Answer = dict[str, Any]
_MAX_COUNTED = 10_000
_MAX_EXAMINED = 20_000
_FARTHEST = 100_000
_MAX_KEYS = 1000
_SORTS = {
    "startTime": "start_time",
    "endTime": "end_time",
    "spend": "spend",
    "total_tokens": "total_tokens",
    "request_duration_ms": "request_duration_ms",
    "model": "model",
}


# Query parameter -> the column that must equal it.
_INDEXED = {
    "request_id": "request_id",
    "session_id": "session_id",
    "team_id": "team_id",
    "end_user": "end_user",
    "status_filter": "status",
}
_EXAMINED = {
    "model": "model",
    "model_id": "model_id",
    "model_group": "model_group",
    "cache_hit_filter": "cache_hit",
}
_PAGING: Table = {"page": page_field(), "page_size": size_field(1000)}
_TABLE: Table = {
    "start_date": range_edge(is_end=False),
    "end_date": range_edge(is_end=True),
    **dict.fromkeys(("api_key", "user_id", "key_alias", "search", *_INDEXED, *_EXAMINED), identifier()),
    "request_id": identifier(128),
    "status_filter": identifier(16),
    "cache_hit_filter": identifier(16),
    "cache_hit": identifier(16),
    "error_code": identifier(64),
    "error_message": identifier(),
    "min_spend": money(),
    "max_spend": money(),
    "exclude_internal_health_checks": flag(),
    "group_by_session": flag(),
    "sort_by": text(),
    "sort_order": text(),
    **_PAGING,
}


@blueprint.get("/spend/logs/ui")
@blueprint.get("/spend/logs/v2")
@takes(query=_TABLE)
async def spend_logs_table() -> Answer:
    asked = read_query(page=1, page_size=50, sort_by="startTime", sort_order="desc")
    if asked["start_date"] is None or asked["end_date"] is None:
        raise InvalidRequest("Start date and end date are required", type="bad_request", param="None")
    if asked["sort_by"] not in _SORTS:
        raise bad_request(f"sort_by must be one of {', '.join(_SORTS)}", "sort_by")
    if asked["sort_order"].lower() not in ("asc", "desc"):
        raise bad_request("sort_order must be asc or desc", "sort_order")
    return await _page(await _selection(current_principal(), asked), asked)


@blueprint.get("/spend/logs/session/ui")
@takes(query={"session_id": identifier().required, **_PAGING})
async def calls_of_session() -> Answer:
    """The calls of one session, oldest first."""
    asked = read_query(page=1, page_size=50)
    selection = _Selection(indexed=await _whose(current_principal(), {"user_id": None, "team_id": None}))
    selection.indexed.add("session_id = {}", asked["session_id"])
    return await _page(selection, {**asked, "sort_by": "startTime", "sort_order": "asc", "group_by_session": False})


@blueprint.get("/spend/logs/ui/<path:request_id>")
@takes(query={"start_date": range_edge(is_end=False)})
async def call_details(request_id: str) -> Answer | tuple[str, int, dict[str, str]]:
    """Prompts and answers are not kept: for a call that the caller may see all three are empty, else null."""
    read_query()
    visible_rows = SpendLog.filter(visible(current_principal(), None), request_id=request_id[:128].replace("\x00", ""))
    if not await visible_rows.exists():
        return "null", 200, {"Content-Type": "application/json"}
    return {"messages": [], "response": {}, "proxy_server_request": {}}


# ---- which rows ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Selection:
    """Conditions with an index, and conditions that every row left by them is examined for."""

    indexed: Where
    examined: list[tuple[str, Any]] = field(default_factory=list)

    def whole(self) -> Where:
        where = self.indexed.copy()
        for condition, value in self.examined:
            where.add(condition, value)
        return where


async def _selection(principal: Principal, asked: Answer) -> _Selection:
    found = _Selection(await _whose(principal, asked))
    where = found.indexed.add("start_time >= {}", asked["start_date"]).add("start_time <= {}", asked["end_date"])
    if asked["api_key"]:
        where.add("api_key = {}", named_key(asked["api_key"]))
    if asked["key_alias"]:
        keys = VirtualKey.filter(key_alias__icontains=asked["key_alias"]).limit(_MAX_KEYS).values("token")
        where.among("api_key", [key["token"] for key in await keys])
    for name, column in _INDEXED.items():
        if asked[name]:
            where.add(f"{column} = {{}}", asked[name])
    if asked["error_code"] or asked["error_message"]:
        where.add("status = {}", "failure")
    asked["cache_hit_filter"] = asked["cache_hit_filter"] or asked["cache_hit"]
    found.examined.extend(_examined(asked))
    return found


def _examined(asked: Answer) -> Iterable[tuple[str, Any]]:
    for name, column in _EXAMINED.items():
        if asked[name]:
            yield f"{column} = {{}}", asked[name]
    number = "CAST(spend AS REAL)" if services().database.is_sqlite else "spend"
    if asked["min_spend"] is not None:
        yield f"{number} >= {{}}", _amount(asked["min_spend"])
    if asked["max_spend"] is not None:
        yield f"{number} <= {{}}", _amount(asked["max_spend"])
    if asked["error_code"]:
        yield f"{_error('error_code')} = {{}}", asked["error_code"]
    if asked["error_message"]:
        yield f"UPPER({_error('error_message')}) LIKE {{}} ESCAPE '\\'", _part(asked["error_message"])
    if asked["exclude_internal_health_checks"]:
        yield "api_key <> {}", "litellm-internal-health-check"
    if asked["search"]:
        yield _search_condition(), _part(asked["search"])


def _amount(value: Any) -> Any:
    return float(value) if services().database.is_sqlite else value


def _error(name: str) -> str:
    """SQL for one fact of a failure."""
    if services().database.is_sqlite:
        return f"json_extract(metadata, '$.error_information.{name}')"
    return f"metadata -> 'error_information' ->> '{name}'"


def _search_condition() -> str:
    columns = ("request_id", "model", "model_group", '"user"', "end_user", "session_id", "api_key")
    words = " || ' ' || ".join(f"COALESCE({column}, '')" for column in columns)
    return f"UPPER({words}) LIKE {{}} ESCAPE '\\'"


def _part(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped.upper()}%"


async def _whose(principal: Principal, asked: Answer) -> Where:
    """Own rows; an admin of the team that was asked for sees those of the team. Raises 403 for somebody else's."""
    where, user_id = Where(), asked["user_id"]
    if principal.can_read_all:
        return where.add('"user" = {}', user_id) if user_id else where
    if asked["team_id"] and principal.user_id and await is_team_admin(principal, asked["team_id"]):
        where.add("team_id = {}", asked["team_id"])
        return where.add('"user" = {}', user_id) if user_id else where
    if user_id is not None and user_id != principal.user_id:
        raise refused("You are not authorized to see another user's spend")
    if principal.user_id is None:
        return where.add("api_key = {}", principal.key_hash)
    return where.add('"user" = {}', principal.user_id)


# ---- one page ------------------------------------------------------------------------------------------------------


async def _page(selection: _Selection, asked: Answer) -> Answer:
    since = await _examined_since(selection, asked)
    if since is not None:
        selection.indexed.add("start_time > {}", since)
    where = selection.whole()
    if asked["group_by_session"]:
        where.conditions.append(_newest_of_session())
    ids, number = await (_ids_and_count(where, asked) if selection.examined else _ids_then_count(where, asked))
    rows = {row.request_id: row for row in await SpendLog.filter(request_id__in=ids)} if ids else {}
    data = [shown(rows[id]) for id in ids if id in rows]
    if asked["group_by_session"]:
        await _add_sessions(data)
    return {
        "data": data,
        "total": min(number, _MAX_COUNTED),
        "page": asked["page"],
        "page_size": asked["page_size"],
        "total_pages": -(-min(number, _MAX_COUNTED) // asked["page_size"]),
        "total_is_capped": number > _MAX_COUNTED or since is not None,
        "examined_since": since.isoformat() if since is not None else None,
    }


async def _examined_since(selection: _Selection, asked: Answer) -> datetime | None:
    """When only the newest rows can be looked at: the time that they begin after."""
    if not selection.examined and asked["sort_by"] == "startTime":
        return None
    rows = await services().database.fetch(
        f"SELECT start_time FROM spend_log {selection.indexed.sql} ORDER BY start_time DESC "  # noqa: S608 (names of this file)
        f"LIMIT 1 OFFSET {_MAX_EXAMINED}",
        selection.indexed.parameters,
    )
    return _moment(rows[0]["start_time"]) if rows else None


def _moment(value: Any) -> datetime:
    found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _newest_of_session() -> str:
    """Of each session only its newest call is a row of the table."""
    return (
        "(session_id IS NULL OR NOT EXISTS (SELECT 1 FROM spend_log AS later "
        "WHERE later.session_id = spend_log.session_id AND (later.start_time > spend_log.start_time "
        "OR (later.start_time = spend_log.start_time AND later.request_id > spend_log.request_id))))"
    )


async def _ids_then_count(where: Where, asked: Answer) -> tuple[list[str], int]:
    """The page, and how many rows there are, where an index leads to both: each stops as soon as it can."""
    order, page = _order(asked), _limits(asked)
    sql = f"SELECT request_id FROM spend_log {where.sql} {order} LIMIT {page[0]} OFFSET {page[1]}"  # noqa: S608 (names of this file)
    rows = await services().database.rows(sql, where.parameters)
    return [row[0] for row in rows], await _count(where)


async def _ids_and_count(where: Where, asked: Answer) -> tuple[list[str], int]:
    """The same where rows must be looked at one by one: once, and by time no more than are counted."""
    order, (size, offset) = _order(asked), _limits(asked)
    most = f"LIMIT {max(_MAX_COUNTED + 1, offset + size)}" if asked["sort_by"] == "startTime" else ""
    found = f"SELECT request_id, {_SORTS[asked['sort_by']]} FROM spend_log {where.sql} {order} {most}"  # noqa: S608 (names of this file)
    sql = f"SELECT request_id, COUNT(*) OVER () FROM ({found}) AS found {order} LIMIT {size} OFFSET {offset}"  # noqa: S608 (the same)
    rows = await services().database.rows(sql, where.parameters)
    return [row[0] for row in rows], int(rows[0][1]) if rows else await _count(where)


async def _count(where: Where) -> int:
    """How many rows, counted to one more than the bound."""
    inner = f"SELECT 1 FROM spend_log {where.sql} LIMIT {_MAX_COUNTED + 1}"  # noqa: S608 (names of this file)
    sql = f"SELECT COUNT(*) AS number FROM ({inner}) AS counted"  # noqa: S608 (the same)
    return int((await services().database.fetch(sql, where.parameters))[0]["number"])


def _order(asked: Answer) -> str:
    column = _SORTS[asked["sort_by"]]
    if column == "spend" and services().database.is_sqlite:
        column = "CAST(spend AS REAL)"
    direction = "ASC" if asked["sort_order"].lower() == "asc" else "DESC"
    return f"ORDER BY {column} {direction}, request_id {direction}"


def _limits(asked: Answer) -> tuple[int, int]:
    """Rows of the page that was asked for, and how many are before it. Raises 400 for one too far back."""
    size = int(asked["page_size"])
    offset = (int(asked["page"]) - 1) * size
    if offset > _FARTHEST:
        raise bad_request(f"Pages end after {_FARTHEST} rows: ask for an earlier end_date instead", "page")
    return size, offset


async def _add_sessions(rows: list[Answer]) -> None:
    """How many calls the session of each row has, and what they cost together."""
    sessions = {row["session_id"] for row in rows if row["session_id"]}
    if not sessions:
        return
    database = services().database
    where = Where().among("session_id", sorted(sessions))
    sql = (
        f"SELECT session_id, COUNT(*) AS number, {database.total('spend')} AS spend FROM spend_log {where.sql} "  # noqa: S608
        "GROUP BY session_id"
    )
    found = {row["session_id"]: row for row in await database.fetch(sql, where.parameters)}
    for row in rows:
        session = found.get(row["session_id"])
        row["session_total_count"] = int(session["number"]) if session else 1
        row["session_total_spend"] = float(session["spend"]) if session else row["spend"]
