"""Spend of the whole instance: totals, per day, per key, per team, per model. For admins and admin viewers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from quart import Blueprint

from ..auth.credentials import key_hash_of
from ..models import DeletedVirtualKey, Team, VirtualKey
from .body import Table, identifier, read_query, whole
from .spend_scope import Where, sums, usd

blueprint = Blueprint("admin_global_spend", __name__)

Answer = dict[str, Any]
_DAYS = 30
_TOP: Table = {"limit": whole(1, 1000)}


def _last_days() -> Where:
    first = datetime.now(UTC).date() - timedelta(days=_DAYS - 1)
    return Where().add("date >= {}", first.isoformat())


async def _largest(column: str, limit: int) -> list[tuple[str, float]]:
    """The groups of the last 30 days that spent most, largest first."""
    rest = f"GROUP BY {column} ORDER BY CAST({{spend}} AS REAL) DESC, {column} LIMIT {int(limit)}"
    rows = await sums(f"{column} AS name, {{spend}} AS spend", _last_days(), rest)
    return [(row["name"], usd(row["spend"])) for row in rows]


@blueprint.get("/global/spend")
async def total_spend() -> Answer:
    """Everything that was ever spent, in USD; there is no ceiling for a whole instance yet."""
    rows = await sums("{spend} AS spend", Where(), "")
    return {"spend": usd(rows[0]["spend"]), "max_budget": None}


@blueprint.get("/global/spend/logs")
async def spend_per_day() -> list[Answer]:
    """The last 30 days with traffic, oldest first; of one key with `api_key`."""
    given = read_query({"api_key": identifier()})["api_key"]
    where = _last_days()
    if given:
        where.add("api_key = {}", key_hash_of(given) if given.startswith("sk-") else given)
    rows = await sums("date, {spend} AS spend", where, "GROUP BY date ORDER BY date")
    return [{"date": row["date"], "spend": usd(row["spend"])} for row in rows]


@blueprint.get("/global/spend/keys")
async def spend_per_key() -> list[Answer]:
    found = await _largest("api_key", read_query(_TOP, limit=10)["limit"])
    tokens = [token for token, _ in found]
    known: dict[str, VirtualKey | DeletedVirtualKey] = {}
    for deleted in await DeletedVirtualKey.filter(token__in=tokens).order_by("id"):
        known[deleted.token] = deleted
    known.update({key.token: key for key in await VirtualKey.filter(token__in=tokens)})
    return [
        {
            "api_key": token,
            "key_alias": known[token].key_alias if token in known else None,
            "key_name": known[token].key_name if token in known else None,
            "total_spend": spend,
        }
        for token, spend in found
    ]


@blueprint.get("/global/spend/teams")
async def spend_per_team() -> Answer:
    """The last 30 days: per day and per team, calls without a team as "Unassigned"."""
    columns = "date, team_id"
    rows = await sums(f"{columns}, {{spend}} AS spend", _last_days(), f"GROUP BY {columns} ORDER BY date, team_id")
    teams = await Team.filter(team_id__in={row["team_id"] for row in rows if row["team_id"]})
    aliases = {"": "Unassigned", **{team.team_id: team.team_alias or team.team_id for team in teams}}
    days: dict[str, Answer] = {}
    for row in rows:
        name = aliases.get(row["team_id"], row["team_id"])
        day = days.setdefault(row["date"], {"date": row["date"]})
        day[name] = day.get(name, 0.0) + usd(row["spend"])
    totals = await _largest("team_id", 1000)
    names = [aliases.get(team_id, team_id) for team_id, _ in totals]
    per_team = [{"team_id": name, "total_spend": spend} for name, (_, spend) in zip(names, totals, strict=True)]
    return {"daily_spend": list(days.values()), "teams": names, "total_spend_per_team": per_team}


@blueprint.get("/global/spend/models")
async def spend_per_model() -> list[Answer]:
    found = await _largest("model", read_query(_TOP, limit=10)["limit"])
    return [{"model": model, "total_spend": spend} for model, spend in found]
