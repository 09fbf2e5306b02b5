"""Daily activity: spend and tokens per UTC day, with breakdowns, from the totals that the ledger writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from quart import Blueprint

from ..auth.principal import current_principal
from ..models import DeletedVirtualKey, Team, TeamMembership, User, VirtualKey
from .body import Table, identifier, listed, read_query, whole
from .key_access import refused
from .paging import page_field, size_field
from .spend_scope import Where, check_days, day, own_only, sums

blueprint = Blueprint("admin_activity", __name__)

Answer = dict[str, Any]
_COUNTS = (
    "prompt_tokens",
    "completion_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "successful_requests",
    "failed_requests",
    "api_requests",
    "total_response_time_ms",
)
# Part of the contract, about features that this gateway does not have.
_ALWAYS_ZERO = (
    "flat_cost",
    "compression_saved_tokens",
    "compression_savings_spend",
    "prompt_caching_savings_spend",
    "gateway_injected_caching_savings_spend",
    "autorouter_savings_spend",
)
# Breakdown -> the column of daily_spend that it goes by.
_BREAKDOWNS = {
    "models": "model",
    "model_groups": "model_group",
    "providers": "custom_llm_provider",
    "endpoints": "endpoint",
}
_MEASURES = "{spend} AS spend, " + ", ".join(f"SUM({name}) AS {name}" for name in _COUNTS)
_DAILY: Table = {
    "start_date": day(),
    "end_date": day(),
    **dict.fromkeys(("model", "api_key", "user_id"), identifier()),
    "team_ids": listed(),
    "exclude_team_ids": listed(),
    "page": page_field(),
    "page_size": size_field(1000),
    "api_key_limit": whole(1, 1000),
}
_MOST_KEYS = 1000


class Metrics:
    """Sums of one group."""

    __slots__ = ("counts", "spend")

    def __init__(self) -> None:
        self.spend = Decimal(0)
        self.counts = dict.fromkeys(_COUNTS, 0)

    def add(self, row: Answer) -> None:
        self.spend += Decimal(str(row["spend"] or 0))
        for name in _COUNTS:
            self.counts[name] += int(row[name] or 0)

    def as_wire(self) -> Answer:
        tokens = self.counts["prompt_tokens"] + self.counts["completion_tokens"]
        requests = self.counts["api_requests"]
        zeros = dict.fromkeys(_ALWAYS_ZERO, 0)
        return {"spend": float(self.spend), **zeros, **self.counts, "total_tokens": tokens, "timed_requests": requests}


class Group:
    """One entry of a breakdown: its sums, and the sums of each key in it."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.keys: dict[str, Metrics] = {}

    def as_wire(self, names: dict[str, Answer], metadata: Answer | None = None) -> Answer:
        return {
            "metrics": self.metrics.as_wire(),
            "metadata": metadata or {},
            "api_key_breakdown": {
                key: {"metrics": metrics.as_wire(), "metadata": names[key]} for key, metrics in self.keys.items()
            },
        }


@blueprint.get("/user/daily/activity")
async def user_activity() -> Answer:
    asked = read_query(_DAILY, page=1, page_size=50)
    return await _activity(asked, _own(asked), entity="user_id")


@blueprint.get("/user/daily/activity/aggregated")
async def user_activity_at_once() -> Answer:
    """The same without pages."""
    asked = {**read_query(_DAILY), "page": 1, "page_size": 1000}
    return await _activity(asked, _own(asked), entity="user_id")


def _own(asked: Answer) -> Where:
    return own_only(current_principal(), Where(), user_id=asked["user_id"], user_column="user_id")


@blueprint.get("/team/daily/activity")
async def team_activity() -> Answer:
    asked = read_query(_DAILY, page=1, page_size=10)
    return await _activity(asked, await _teams(asked), entity="team_id")


@blueprint.get("/team/daily/activity/aggregated")
async def team_activity_at_once() -> Answer:
    asked = {**read_query(_DAILY), "page": 1, "page_size": 1000}
    return await _activity(asked, await _teams(asked), entity="team_id")


async def _teams(asked: Answer) -> Where:
    """The teams that were asked for; those of the caller unless the caller sees all."""
    principal = current_principal()
    wanted, unwanted = asked["team_ids"] or [], asked["exclude_team_ids"] or []
    where = Where().add("team_id <> {}", "")
    if not principal.can_read_all:
        rows = TeamMembership.filter(user_id=principal.user_id or "").limit(1000)
        own = [row.team_id async for row in rows]
        if wanted and not set(wanted) <= set(own):
            raise refused("You are not a member of these teams")
        wanted = wanted or own
        where.among("team_id", wanted)
    elif wanted:
        where.among("team_id", wanted)
    for team_id in unwanted:
        where.add("team_id <> {}", team_id)
    return where


async def _activity(asked: Answer, where: Where, *, entity: str) -> Answer:
    """Days with traffic, newest first, `page_size` days a page; the totals are those of the page."""
    first, last = check_days(asked["start_date"], asked["end_date"])
    where.add("date >= {}", first.isoformat()).add("date <= {}", last.isoformat())
    for name in ("model", "api_key"):
        if asked[name]:
            where.add(f"{name} = {{}}", asked[name])
    days = [row["date"] for row in await sums("DISTINCT date", where, "ORDER BY date DESC")]
    start = (asked["page"] - 1) * asked["page_size"]
    shown = days[start : start + asked["page_size"]]
    results, total = await _results(shown, where, entity, asked["api_key_limit"] or _MOST_KEYS)
    pages = -(-len(days) // asked["page_size"])
    has_more = asked["page"] < pages
    return {
        "results": results,
        "metadata": {**_totals(total), "page": asked["page"], "total_pages": pages, "has_more": has_more},
    }


def _totals(total: Metrics) -> Answer:
    figures = total.as_wire()
    names = [*_ALWAYS_ZERO, *_COUNTS, "spend", "total_tokens"]
    return {name if name.startswith("total_") else f"total_{name}": figures[name] for name in names}


async def _results(days: list[str], where: Where, entity: str, most_keys: int) -> tuple[list[Answer], Metrics]:
    total = Metrics()
    if not days:
        return [], total
    where = where.copy().among("date", days)
    dimensions = ", ".join(("date", *_BREAKDOWNS.values(), entity))
    rows = await sums(f"{dimensions}, {_MEASURES}", where, f"GROUP BY {dimensions}")
    keys = await _largest_keys(where, most_keys)
    of_keys = where.copy().among("api_key", keys)
    rows_of_keys = await sums(f"{dimensions}, api_key, {_MEASURES}", of_keys, f"GROUP BY {dimensions}, api_key")
    named = await _key_names(keys)
    entities = await _entity_names(entity, {row[entity] for row in rows if row[entity]})
    per_day, keys_per_day = _by_date(rows), _by_date(rows_of_keys)
    for row in rows:
        total.add(row)
    return [_day(date, per_day[date], keys_per_day[date], entity, named, entities) for date in days], total


def _by_date(rows: Iterable[Answer]) -> defaultdict[str, list[Answer]]:
    found: defaultdict[str, list[Answer]] = defaultdict(list)
    for row in rows:
        found[row["date"]].append(row)
    return found


def _day(
    date: str,
    rows: list[Answer],
    rows_of_keys: list[Answer],
    entity: str,
    named: dict[str, Answer],
    entities: dict[str, Answer],
) -> Answer:
    metrics, keys = Metrics(), dict[str, Metrics]()
    for row in rows:
        metrics.add(row)
    for row in rows_of_keys:
        keys.setdefault(row["api_key"], Metrics()).add(row)
    breakdown: Answer = {"mcp_servers": {}}
    for name, column in _BREAKDOWNS.items():
        groups = _groups(rows, rows_of_keys, column)
        breakdown[name] = {value: group.as_wire(named) for value, group in groups.items()}
    breakdown["api_keys"] = {
        key: {"metrics": figures.as_wire(), "metadata": named[key]} for key, figures in keys.items()
    }
    groups = _groups(rows, rows_of_keys, entity)
    breakdown["entities"] = {value: group.as_wire(named, entities.get(value)) for value, group in groups.items()}
    return {"date": date, "metrics": metrics.as_wire(), "breakdown": breakdown}


def _groups(rows: Iterable[Answer], rows_of_keys: Iterable[Answer], column: str) -> dict[str, Group]:
    groups: dict[str, Group] = {}
    for row in rows:
        if row[column]:
            groups.setdefault(row[column], Group()).metrics.add(row)
    for row in rows_of_keys:
        if row[column]:
            groups[row[column]].keys.setdefault(row["api_key"], Metrics()).add(row)
    return groups


async def _largest_keys(where: Where, most: int) -> list[str]:
    """The keys that spent most: a day of a large fleet has more keys than an answer can hold."""
    rest = f"AND api_key <> '' GROUP BY api_key ORDER BY CAST({{spend}} AS REAL) DESC, api_key LIMIT {int(most)}"
    return [row["api_key"] for row in await sums("api_key", where, rest)]


async def _key_names(tokens: list[str]) -> dict[str, Answer]:
    """What is known of each key; a deleted one keeps its name."""
    found: dict[str, VirtualKey | DeletedVirtualKey] = {}
    for deleted in await DeletedVirtualKey.filter(token__in=tokens).order_by("id"):
        found[deleted.token] = deleted
    live = {key.token: key for key in await VirtualKey.filter(token__in=tokens)}
    found.update(live)
    owners = {row.user_id for row in found.values() if row.user_id}
    emails = {user.user_id: user.user_email for user in await User.filter(user_id__in=owners)}
    return {
        token: {
            "key_alias": row.key_alias if row is not None else None,
            "team_id": row.team_id if row is not None else None,
            "user_id": row.user_id if row is not None else None,
            "user_email": emails.get(row.user_id) if row is not None and row.user_id else None,
            "key_exists": token in live,
        }
        for token, row in ((token, found.get(token)) for token in tokens)
    }


async def _entity_names(entity: str, ids: set[str]) -> dict[str, Answer]:
    if entity == "team_id":
        return {team.team_id: {"team_alias": team.team_alias} for team in await Team.filter(team_id__in=ids)}
    users = await User.filter(user_id__in=ids)
    return {user.user_id: {"user_email": user.user_email, "user_alias": user.user_alias} for user in users}
