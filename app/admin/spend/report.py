"""The spend report: per day, what each team, end user, organization, user or key spent on which model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quart import Blueprint

from ...web.fields import Table, bad_request, identifier, one_of, read_query, takes
from .daily_figures import Answer
from .daily_names import entity_names, key_names
from .daily_rows import END_USERS, ORGANIZATIONS, TEAMS, USERS, Entity
from .global_spend import asked_days
from .visibility import Where, day, named_key, sums, usd

blueprint = Blueprint("admin_spend_report", __name__)

# Groups of one report, largest first; whoever has more asks for fewer days, or for one of them.
_MAX_GROUPS = 5000


@dataclass(frozen=True, slots=True)
class _Grouping:
    """How a report is grouped: `column` of `table`, and the words of the answer."""

    list_name: str
    name: str
    column: str
    table: str
    kind: str = ""
    entity: Entity | None = None


_GROUPINGS = {
    "team": _Grouping("teams", "team_name", "team_id", "daily_spend", entity=TEAMS),
    "customer": _Grouping("customers", "customer", "entity_id", "daily_entity_spend", "end_user", END_USERS),
    "organization": _Grouping(
        "organizations", "organization", "entity_id", "daily_entity_spend", "organization", ORGANIZATIONS
    ),
    "internal_user": _Grouping("internal_users", "internal_user", "user_id", "daily_spend", entity=USERS),
    "api_key": _Grouping("api_keys", "api_key", "api_key", "daily_spend"),
}
_REPORT: Table = {
    "start_date": day(),
    "end_date": day(),
    "group_by": one_of(*_GROUPINGS),
    **dict.fromkeys(("api_key", "internal_user_id", "team_id", "customer_id", "organization_id"), identifier()),
}
# Query parameter -> the grouping that it narrows down.
_ONE = {
    "team_id": "team",
    "customer_id": "customer",
    "organization_id": "organization",
    "internal_user_id": "internal_user",
    "api_key": "api_key",
}


@blueprint.get("/global/spend/report")
@takes(query=_REPORT)
async def spend_report() -> list[Answer]:
    """Days, oldest first, each with its groups, largest first, and what they spent per model and key."""
    asked = read_query()
    chosen = next((name for name, of in _ONE.items() if asked[name] and asked["group_by"] in (None, of)), None)
    how = _GROUPINGS[asked["group_by"] or (_ONE[chosen] if chosen else "team")]
    where = Where().among("date", asked_days(asked))
    if how.kind:
        where.add("kind = {}", how.kind).add("api_key <> {}", "")
    where.add(f"{how.column} <> {{}}", "")
    for name, of in _ONE.items():
        if asked[name]:
            _narrow(where, how, _GROUPINGS[of], named_key(asked[name]) if name == "api_key" else asked[name])
    return await _days(how, where)


def _narrow(where: Where, how: _Grouping, of: _Grouping, value: str) -> None:
    if of.table != how.table and of.column != "api_key":
        raise bad_request(f"A report of {how.list_name} cannot be narrowed down to one of {of.list_name}")
    if of.kind not in ("", how.kind):
        raise bad_request(f"A report of {how.list_name} cannot be narrowed down to one of {of.list_name}")
    where.add(f"{of.column} = {{}}", value)


async def _days(how: _Grouping, where: Where) -> list[Answer]:
    columns = ", ".join(dict.fromkeys(("date", how.column, "model", "api_key")))
    select = f"{columns}, {{spend}} AS spend, SUM(prompt_tokens) + SUM(completion_tokens) AS tokens"
    rest = f"GROUP BY {columns} ORDER BY CAST({{spend}} AS REAL) DESC LIMIT {_MAX_GROUPS}"
    rows = await sums(select, where, rest, table=how.table)
    names = await _names(how, {row[how.column] for row in rows})
    days: defaultdict[str, defaultdict[str, list[Answer]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        days[row["date"]][row[how.column]].append(row)
    return [
        {
            "group_by_day": date,
            how.list_name: [_group(how, names.get(id) or id, entries) for id, entries in days[date].items()],
        }
        for date in sorted(days)
    ]


async def _names(how: _Grouping, ids: set[str]) -> Mapping[str, Any]:
    """What people call each: a team or organization by its alias, the others by their id."""
    if how.entity is None:
        return {id: found["key_alias"] for id, found in (await key_names(ids)).items()}
    found = await entity_names(how.entity, ids)
    return {id: entry.get("team_alias") or entry.get("organization_alias") for id, entry in found.items()}


def _group(how: _Grouping, name: str, rows: list[Answer]) -> Answer:
    return {
        how.name: name,
        "total_spend": sum(usd(row["spend"]) for row in rows),
        "metadata": [
            {
                "model": row["model"],
                "spend": usd(row["spend"]),
                "total_tokens": int(row["tokens"]),
                "api_key": row["api_key"],
            }
            for row in rows
        ],
    }
