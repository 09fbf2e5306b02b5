"""Customers (end users): people behind a key's holder, known by the `user` value of their calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart import Blueprint
from tortoise.exceptions import IntegrityError

from ...errors import InvalidRequest, NotFound
from ...models import EndUser
from ...services import services
from ...web.fields import Table, bad_request, flag, identifier, money, one_of, read_body, read_query, takes, text_list
from ..audit.trail import END_USERS, record_change
from ..changes import VERSION, change_row, expected_version
from ..paging import page_field, size_field
from ..spend.budget_fields import WITH_BUDGET, budget_link, budgets_of, drop_own_budget, with_budget

blueprint = Blueprint("admin_customers", __name__)

Answer = dict[str, Any]
OWN_BUDGET = "end-user-"
_MAX_AT_ONCE = 1000
_COLUMNS: Table = {
    "alias": identifier(),
    "blocked": flag(),
    "spend": money(),
    "allowed_model_region": one_of("eu", "us"),
    "default_model": identifier(),
    "models": text_list(),
}
_NEW: Table = {**WITH_BUDGET, **_COLUMNS, "user_id": identifier().required}
_CHANGED: Table = {**_NEW, **VERSION}
_SOME: Table = {"user_ids": text_list().required}
_LISTED: Table = {"page": page_field(), "page_size": size_field(1000), "search": identifier(), "blocked": flag()}


def _columns(sent: Mapping[str, Any]) -> dict[str, Any]:
    columns = {name: sent[name] for name in _COLUMNS if name in sent}
    if "spend" in columns and columns["spend"] is None:
        del columns["spend"]
    return columns


def _unknown(*user_ids: str) -> NotFound:
    listed = ", ".join(user_ids[:10])
    return NotFound(f"End User Id={listed} does not exist in db", type="not_found", param="end_user_id")


async def _need(user_id: str | None) -> EndUser:
    if user_id is None:
        raise bad_request("user_id must not be empty", "user_id")
    row = await EndUser.get_or_none(user_id=user_id)
    if row is None:
        raise _unknown(user_id)
    return row


async def _some() -> list[str]:
    """The `user_ids` of the body, each once. Raises 400 for none, or too many at once."""
    ids = list(dict.fromkeys(id.strip() for id in (await read_body())["user_ids"] if id.strip()))
    if not 0 < len(ids) <= _MAX_AT_ONCE:
        raise bad_request(f"Send between 1 and {_MAX_AT_ONCE} user_ids", "user_ids")
    return ids


@blueprint.post("/customer/new")
@blueprint.post("/end_user/new")
@takes(body=_NEW)
async def create_customer() -> Answer:
    sent = await read_body()
    user_id = sent["user_id"]
    if user_id is None:
        raise bad_request("user_id must not be empty", "user_id")
    try:
        async with services().database.transaction():
            link = await budget_link(None, sent, prefix=OWN_BUDGET)
            row = await EndUser.create(user_id=user_id, **_columns(sent), **link)
            await record_change("created", END_USERS, user_id, after=row.to_json())
    except IntegrityError:
        message = f"Customer already exists, passed user_id={user_id}. Please pass a new user_id."
        raise InvalidRequest(message, type="bad_request", param="user_id") from None
    services().keys.forget_all()
    return await with_budget(row.to_json())


@blueprint.get("/customer/info")
@blueprint.get("/end_user/info")
@takes(query={"end_user_id": identifier().required})
async def customer_info() -> Answer:
    return await with_budget((await _need(read_query()["end_user_id"])).to_json())


@blueprint.get("/customer/list")
@blueprint.get("/end_user/list")
@takes(query=_LISTED)
async def list_customers() -> list[Answer]:
    """In the order of their ids: the first 1000, or a page."""
    asked = read_query(page=1, page_size=1000)
    query = EndUser.all()
    if asked["search"]:
        query = query.filter(user_id__startswith=asked["search"])
    if asked["blocked"] is not None:
        query = query.filter(blocked=asked["blocked"])
    start = (asked["page"] - 1) * asked["page_size"]
    rows = await query.order_by("user_id").offset(start).limit(asked["page_size"])
    budgets = await budgets_of(row.budget_id for row in rows)
    return [{**row.to_json(), "litellm_budget_table": budgets.get(row.budget_id or "")} for row in rows]


@blueprint.post("/customer/update")
@blueprint.post("/end_user/update")
@takes(body=_CHANGED)
async def update_customer() -> Answer:
    sent = await read_body()
    row = await _need(sent["user_id"])
    if "spend" in sent:
        # What is still in the journal belongs to the time before.
        await services().ledger.flush()
    async with services().database.transaction():
        columns = {**_columns(sent), **await budget_link(row.budget_id, sent, prefix=OWN_BUDGET)}
        await change_row(row, columns, table=END_USERS, object_id=row.user_id, version=expected_version(sent))
    services().keys.forget_all()
    return await with_budget(row.to_json())


@blueprint.post("/customer/block")
@blueprint.post("/end_user/block")
@takes(body=_SOME)
async def block_customers() -> Answer:
    """Also customers that no call has named yet: their first one is refused."""
    ids = await _some()
    async with services().database.transaction():
        known = {row.user_id: row for row in await EndUser.filter(user_id__in=ids)}
        for user_id in ids:
            row = known.get(user_id) or await EndUser.create(user_id=user_id)
            known[user_id] = row
            await _set_blocked(row, is_blocked=True)
    services().keys.forget_all()
    return {"blocked_users": [known[user_id].to_json() for user_id in ids]}


@blueprint.post("/customer/unblock")
@blueprint.post("/end_user/unblock")
@takes(body=_SOME)
async def unblock_customers() -> Answer:
    ids = await _some()
    async with services().database.transaction():
        rows = await _known(ids)
        for row in rows:
            await _set_blocked(row, is_blocked=False)
    services().keys.forget_all()
    return {"unblocked_users": [row.to_json() for row in rows]}


async def _set_blocked(row: EndUser, *, is_blocked: bool) -> None:
    action = "blocked" if is_blocked else "unblocked"
    await change_row(row, {"blocked": is_blocked}, table=END_USERS, object_id=row.user_id, action=action)


async def _known(ids: list[str]) -> list[EndUser]:
    """The rows in the order of their ids in the request. Raises 404 that names those that are not there."""
    rows = {row.user_id: row for row in await EndUser.filter(user_id__in=ids)}
    missing = [id for id in ids if id not in rows]
    if missing:
        raise _unknown(*missing)
    return [rows[id] for id in ids]


@blueprint.post("/customer/delete")
@blueprint.post("/end_user/delete")
@takes(body=_SOME)
async def delete_customers() -> Answer:
    ids = await _some()
    async with services().database.transaction():
        for row in await _known(ids):
            await row.delete()
            await drop_own_budget(row.budget_id, prefix=OWN_BUDGET)
            await record_change("deleted", END_USERS, row.user_id, before=row.to_json())
    services().keys.forget_all()
    message = f"Successfully deleted customers with ids: {ids}"
    return {"deleted_customers": len(ids), "message": message}
