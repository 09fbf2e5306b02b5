"""Spend of the whole instance: totals, per day, per key, per team, per model. For admins and admin viewers.

Sums come from the rows that the ledger keeps for the instance, so none of them grows with the number of keys.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from quart import Blueprint

from ...services import services
from ...web.fields import Table, identifier, listed, moment, read_body, read_query, takes, whole
from .daily_figures import Answer
from .daily_names import keys_by_token, team_aliases
from .daily_rows import TEAMS, USERS, Scope, largest, largest_entities, sums_of_entities, sums_of_keys
from .visibility import Where, check_days, day, days_between, named_key, sums, usd

blueprint = Blueprint("admin_global_spend", __name__)

_DAYS = 30
_MAX_TEAMS = 200
_MAX_NAMES = 1000
_ENTITIES = "daily_entity_spend"
_TOP: Table = {"limit": whole(1, 1000)}
_RANGE: Table = {"start_date": day(), "end_date": day()}


def last_days() -> list[str]:
    """The last 30 days, newest first."""
    today = datetime.now(UTC).date()
    return days_between(today - timedelta(days=_DAYS - 1), today)


def asked_days(asked: Answer) -> list[str]:
    """The days of `start_date` and `end_date`, or the last 30 without them. Raises 400."""
    if asked["start_date"] is None and asked["end_date"] is None:
        return last_days()
    return days_between(*check_days(asked["start_date"], asked["end_date"]))


def instance_rows(days: list[str] | None, kind: str = "all") -> Where:
    """The sums of the instance: of every call, or of every call that has a team, an organization, a tag, …"""
    where = Where().add("kind = {}", kind).add("entity_id = {}", "").add("api_key = {}", "")
    return where if days is None else where.among("date", days)


@blueprint.get("/global/spend")
async def total_spend() -> Answer:
    """Everything that was ever spent, in USD; there is no ceiling for a whole instance."""
    rows = await sums("{spend} AS spend", instance_rows(None), "", table=_ENTITIES)
    return {"spend": usd(rows[0]["spend"]), "max_budget": None}


@blueprint.get("/global/spend/logs")
@takes(query={"api_key": identifier()})
async def spend_per_day() -> list[Answer]:
    """The last 30 days with traffic, oldest first; of one key with `api_key`."""
    given = read_query()["api_key"]
    table, where = _ENTITIES, instance_rows(last_days())
    if given:
        table, where = "daily_spend", Where().add("api_key = {}", named_key(given)).among("date", last_days())
    rows = await sums("date, {spend} AS spend", where, "GROUP BY date ORDER BY date", table=table)
    return [{"date": row["date"], "spend": usd(row["spend"])} for row in rows]


@blueprint.get("/global/spend/keys")
@takes(query=_TOP)
async def spend_per_key() -> list[Answer]:
    """The keys that spent most in the last 30 days."""
    scope = Scope(entity=USERS, days=last_days())
    ranking, _ = await largest(scope)
    limit = read_query(limit=10)["limit"]
    # The order among the largest rows is not yet that of the sums: look at some more.
    tokens = ranking.largest(limit * 2)
    spent = {row[0]: total.spend for row, total in await sums_of_keys(scope, tokens, ("api_key",))}
    ordered = sorted(spent, key=lambda token: (-spent[token], token))[:limit]
    known = await keys_by_token(ordered)
    return [
        {
            "api_key": token,
            "key_alias": known.get(token, {}).get("key_alias"),
            "key_name": known.get(token, {}).get("key_name"),
            "total_spend": usd(spent[token]),
        }
        for token in ordered
    ]


@blueprint.get("/global/spend/teams")
async def spend_per_team() -> Answer:
    """The last 30 days: per day and per team (the largest 200), calls without a team as "Unassigned"."""
    scope = Scope(entity=TEAMS, days=last_days())
    ranking = await largest_entities(scope)
    rows = await sums_of_entities(scope, ranking.largest(_MAX_TEAMS))
    names = await team_aliases({row[1] for row, _ in rows})
    days: dict[str, Answer] = {}
    totals: dict[str, Decimal] = {}
    for date_, team_id, spend in [
        *await _without_team(),
        *((*row, total.spend) for row, total in rows),
    ]:
        name = "Unassigned" if not team_id else names.get(team_id) or team_id
        amount = Decimal(str(spend))
        days.setdefault(date_, {})[name] = days.get(date_, {}).get(name, 0.0) + float(amount)
        totals[name] = totals.get(name, Decimal(0)) + amount
    ordered = sorted(totals, key=lambda name: (-totals[name], name))
    return {
        "daily_spend": [{"date": date_, **days[date_]} for date_ in sorted(days)],
        "teams": ordered,
        "total_spend_per_team": [{"team_id": name, "total_spend": usd(totals[name])} for name in ordered],
    }


async def _without_team() -> list[tuple[str, str, Decimal]]:
    """Spend per day of the calls without a team: what all calls cost less what those of teams did."""
    spent: dict[str, Decimal] = {}
    for kind, sign in (("all", 1), ("team", -1)):
        where = instance_rows(last_days(), kind)
        for row in await sums("date, {spend} AS spend", where, "GROUP BY date", table=_ENTITIES):
            spent[row["date"]] = spent.get(row["date"], Decimal(0)) + sign * Decimal(str(row["spend"]))
    return [(date_, "", amount) for date_, amount in spent.items() if amount > 0]


@blueprint.get("/global/spend/models")
@takes(query=_TOP)
async def spend_per_model() -> list[Answer]:
    """The models that cost most in the last 30 days."""
    found = await _largest_values("model", last_days(), read_query(limit=10)["limit"])
    return [{"model": name, "total_spend": spend} for name, spend in found]


@blueprint.get("/global/spend/provider")
@takes(query=_RANGE)
async def spend_per_provider() -> list[Answer]:
    """What each provider cost between two days, largest first."""
    found = await _largest_values("custom_llm_provider", asked_days(read_query()), _MAX_NAMES)
    return [{"provider": name or "Unknown", "spend": spend} for name, spend in found]


async def _largest_values(column: str, days: list[str], limit: int) -> list[tuple[str, float]]:
    rest = f"GROUP BY {column} ORDER BY CAST({{spend}} AS REAL) DESC, {column} LIMIT {int(limit)}"
    rows = await sums(f"{column} AS name, {{spend}} AS spend", instance_rows(days), rest, table=_ENTITIES)
    return [(row["name"], usd(row["spend"])) for row in rows]


# ---- tags and end users --------------------------------------------------------------------------------------------


@blueprint.get("/global/spend/tags")
@takes(query={**_RANGE, "tags": listed()})
async def spend_per_tag() -> Answer:
    """What calls with each tag cost, largest first; a call with two tags counts for both."""
    asked = read_query()
    rows = await tag_totals(asked_days(asked), asked["tags"])
    return {
        "spend_per_tag": [{"name": name, "spend": spend, "log_count": number} for name, number, spend in rows],
    }


@blueprint.get("/spend/tags")
@takes(query=_RANGE)
async def spend_of_tags() -> list[Answer]:
    """The same in the older shape."""
    rows = await tag_totals(asked_days(read_query()), None)
    return [{"individual_request_tag": name, "log_count": number, "total_spend": spend} for name, number, spend in rows]


async def tag_totals(days: list[str], tags: list[str] | None) -> list[tuple[str, int, float]]:
    """(tag, calls, USD) of the tags that were asked for, else of the largest."""
    where = Where().add("kind = {}", "tag").add("api_key = {}", "").among("date", days)
    if tags:
        where.among("entity_id", tags)
    else:
        where.add("entity_id <> {}", "")
    rest = f"GROUP BY entity_id ORDER BY CAST({{spend}} AS REAL) DESC, entity_id LIMIT {_MAX_NAMES}"
    rows = await sums("entity_id, SUM(api_requests) AS number, {spend} AS spend", where, rest, table=_ENTITIES)
    return [(row["entity_id"], int(row["number"]), usd(row["spend"])) for row in rows]


@blueprint.get("/global/spend/all_tag_names")
async def all_tag_names() -> Answer:
    """Tags that calls named, in order, at most 1000; each is found by one step through the index."""
    following = "SELECT MIN(entity_id) FROM daily_entity_spend WHERE kind = $1 AND entity_id > {}"
    sql = (
        f"WITH RECURSIVE names(name) AS (SELECT ({following.format('$2')}) UNION ALL "  # noqa: S608 (constants of this function)
        f"SELECT ({following.format('names.name')}) FROM names WHERE names.name IS NOT NULL) "
        f"SELECT name FROM names WHERE name IS NOT NULL LIMIT {_MAX_NAMES}"
    )
    return {"tag_names": [row["name"] for row in await services().database.fetch(sql, ["tag", ""])]}


_END_USERS: Table = {"api_key": identifier(), "startTime": moment(), "endTime": moment()}


@blueprint.post("/global/spend/end_users")
@takes(body=_END_USERS)
async def spend_of_end_users() -> list[Answer]:
    """The 100 end users that cost most, of one key with `api_key`; whole days between the two times."""
    sent = await read_body()
    where = Where().add("kind = {}", "end_user").add("entity_id <> {}", "")
    where.add("api_key = {}", named_key(sent["api_key"]) if sent.get("api_key") else "")
    where.among("date", _days_of(sent.get("startTime"), sent.get("endTime")))
    rest = "GROUP BY entity_id ORDER BY CAST({spend} AS REAL) DESC, entity_id LIMIT 100"
    rows = await sums("entity_id, SUM(api_requests) AS number, {spend} AS spend", where, rest, table=_ENTITIES)
    return [
        {"end_user": row["entity_id"], "total_count": int(row["number"]), "total_spend": usd(row["spend"])}
        for row in rows
    ]


def _days_of(start: datetime | None, end: datetime | None) -> list[str]:
    last: date = end.date() if end is not None else datetime.now(UTC).date()
    first = start.date() if start is not None else last - timedelta(days=_DAYS - 1)
    return days_between(*check_days(first, last))
