"""Tags: words on requests and keys, declared with a budget, or only seen in traffic."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from quart import Blueprint
from tortoise.exceptions import IntegrityError

from ...auth.principal import current_principal
from ...errors import PlainDenial
from ...models import Tag
from ...services import services
from ...web.fields import Table, identifier, read_body, read_query, takes, text, text_list
from ..audit.trail import TAGS, record_change
from ..changes import VERSION, change_row, expected_version
from ..paging import page_field, size_field
from .budget_fields import WITH_BUDGET, budget_link, budgets_of, drop_own_budget, with_budget
from .visibility import check_days, day, usd

blueprint = Blueprint("admin_tags", __name__)

Answer = dict[str, Any]
OWN_BUDGET = "tag-"
_MOST = 1000
_DAYS_LOOKED_BACK = 30
_SEEN_ONLY = "This tag was only seen on requests. Create it to give it a description or a budget."
_COLUMNS: Table = {"description": text(2000), "models": text_list()}
_NEW: Table = {**WITH_BUDGET, **_COLUMNS, "name": identifier().required}
_CHANGED: Table = {**_NEW, **VERSION}
_DAYS: Table = {"start_date": day(), "end_date": day()}
_LISTED: Table = {**_DAYS, "page": page_field(), "page_size": size_field(_MOST)}


def _denied(message: str, status: int) -> PlainDenial:
    return PlainDenial(message, status=status)


async def _need(name: str | None) -> Tag:
    tag = await Tag.get_or_none(tag_name=name) if name else None
    if tag is None:
        raise _denied(f"Tag {name} not found", 404)
    return tag


def _columns(sent: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a request sets. `models` are deployment ids; beside them stand the names that they serve."""
    columns = {name: sent[name] for name in _COLUMNS if name in sent}
    if "models" in columns:
        known = {id: services().deployments.by_id(id) for id in columns["models"]}
        columns["model_info"] = {id: one.public_name for id, one in known.items() if one is not None}
    return columns


@blueprint.post("/tag/new")
@takes(body=_NEW)
async def create_tag() -> Answer:
    sent = await read_body()
    name = sent["name"]
    if name is None:
        raise _denied("name must not be empty", 400)
    try:
        async with services().database.transaction():
            link = await budget_link(None, sent, prefix=OWN_BUDGET)
            tag = await Tag.create(tag_name=name, **_columns(sent), **link, created_by=current_principal().user_id)
            await record_change("created", TAGS, name, after=tag.to_json())
    except IntegrityError:
        raise _denied(f"Tag {name} already exists", 400) from None
    services().keys.forget_all()
    return {"message": f"Tag {name} created successfully", "tag": await with_budget(tag.to_json())}


@blueprint.post("/tag/update")
@takes(body=_CHANGED)
async def update_tag() -> Answer:
    sent = await read_body()
    tag = await _need(sent["name"])
    async with services().database.transaction():
        columns = {**_columns(sent), **await budget_link(tag.budget_id, sent, prefix=OWN_BUDGET)}
        await change_row(tag, columns, table=TAGS, object_id=tag.tag_name, version=expected_version(sent))
    services().keys.forget_all()
    return {"message": f"Tag {tag.tag_name} updated successfully", "tag": await with_budget(tag.to_json())}


@blueprint.post("/tag/info")
@takes(body={"names": text_list().required})
async def tags_by_name() -> Answer:
    """Name -> tag, for those that are there. 404 when none is."""
    names = (await read_body())["names"][:_MOST]
    tags = await Tag.filter(tag_name__in=names).order_by("tag_name")
    if not tags:
        raise _denied(f"No tags found with names: {names[:10]}", 404)
    return {row["name"]: row for row in await _with_budgets(tags)}


async def _with_budgets(tags: list[Tag]) -> list[Answer]:
    budgets = await budgets_of(tag.budget_id for tag in tags)
    return [{**tag.to_json(), "litellm_budget_table": budgets.get(tag.budget_id or "")} for tag in tags]


@blueprint.get("/tag/list")
@takes(query=_LISTED)
async def list_tags() -> list[Answer]:
    """Declared tags by name, then those that only requests named in these days (the last 30 without dates)."""
    asked = read_query(page=1, page_size=_MOST)
    start = (asked["page"] - 1) * asked["page_size"]
    declared = await Tag.all().order_by("tag_name").offset(start).limit(asked["page_size"])
    rows = await _with_budgets(declared)
    room = asked["page_size"] - len(rows)
    return [*rows, *await _seen_only(asked, room)] if room and asked["page"] == 1 else rows


async def _seen_only(asked: Answer, most: int) -> list[Answer]:
    first, last = _range(asked)
    rows = await services().database.fetch(
        "SELECT entity_id, MIN(date) AS first_day, MAX(date) AS last_day FROM daily_entity_spend "
        "WHERE kind = 'tag' AND entity_id <> '' AND api_key = '' AND date >= $1 AND date <= $2 "
        "AND NOT EXISTS (SELECT 1 FROM tag WHERE tag.tag_name = daily_entity_spend.entity_id) "
        "GROUP BY entity_id ORDER BY entity_id LIMIT $3",
        [first.isoformat(), last.isoformat(), most],
    )
    return [_seen(row["entity_id"], row["first_day"], row["last_day"]) for row in rows]


def _seen(name: str, first_day: str, last_day: str) -> Answer:
    empty = dict.fromkeys(("created_by", "budget_id", "budget_reset_at", "litellm_budget_table", "version", "spend"))
    times = {"created_at": f"{first_day}T00:00:00+00:00", "updated_at": f"{last_day}T00:00:00+00:00"}
    return {"name": name, "description": _SEEN_ONLY, "models": [], "model_info": {}, **times, **empty}


def _range(asked: Answer) -> tuple[date, date]:
    today = datetime.now(UTC).date()
    last = asked["end_date"] or max(today, asked["start_date"] or today)
    return check_days(asked["start_date"] or last - timedelta(days=_DAYS_LOOKED_BACK), last)


@blueprint.get("/tag/summary")
@takes(query={**_DAYS, "tag_filter": identifier()})
async def tag_summary() -> Answer:
    """Totals per tag of these days (the last 30 without dates), the 1000 with the most requests. A user is a key."""
    asked = read_query()
    first, last = _range(asked)
    database = services().database
    wanted = [asked["tag_filter"]] if asked["tag_filter"] else []
    only = "AND entity_id = $4 " if wanted else ""
    spend = database.total("spend")
    sql = (
        "SELECT entity_id, COUNT(DISTINCT api_key) AS users, SUM(api_requests) AS calls, "  # noqa: S608 (no value in the text)
        "SUM(successful_requests) AS good, SUM(failed_requests) AS bad, "
        f"SUM(prompt_tokens) + SUM(completion_tokens) AS tokens, {spend} AS spend FROM daily_entity_spend "
        # The sums that the ledger keeps beside the rows of keys would count every call again.
        f"WHERE kind = 'tag' AND entity_id <> '' AND api_key <> '' AND date >= $1 AND date <= $2 {only}"
        "GROUP BY entity_id ORDER BY SUM(api_requests) DESC, entity_id LIMIT $3"
    )
    rows = await database.fetch(sql, [first.isoformat(), last.isoformat(), _MOST, *wanted])
    return {"results": [_summary(row) for row in rows]}


def _summary(row: Answer) -> Answer:
    counts = {"unique_users": "users", "total_requests": "calls", "successful_requests": "good"}
    counts |= {"failed_requests": "bad", "total_tokens": "tokens"}
    return {
        "tag": row["entity_id"],
        **{name: int(row[column] or 0) for name, column in counts.items()},
        "total_spend": usd(row["spend"]),
    }


@blueprint.post("/tag/delete")
@takes(body={"name": identifier().required})
async def delete_tag() -> Answer:
    tag = await _need((await read_body())["name"])
    async with services().database.transaction():
        await tag.delete()
        await drop_own_budget(tag.budget_id, prefix=OWN_BUDGET)
        await record_change("deleted", TAGS, tag.tag_name, before=tag.to_json())
    services().keys.forget_all()
    return {"message": f"Tag {tag.tag_name} deleted successfully"}
