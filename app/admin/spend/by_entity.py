"""Keys and users by what they spent, what a call would cost, and setting what was spent back to zero."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
from quart import Blueprint
from tortoise.expressions import F

from ...models import Team, User, VirtualKey
from ...protocols.base import Usage
from ...protocols.openai.answers import read_usage
from ...services import services
from ...spend.pricing import Prices, cost_of, estimate_of, listed_prices
from ...web.fields import (
    Field,
    Table,
    WrongValue,
    bad_request,
    identifier,
    json_object,
    read_body,
    read_query,
    takes,
    whole,
)
from ..audit.trail import KEYS, TEAMS, record_change
from ..changes import announced_once, transaction, update_rows
from ..paging import order_of, page_field, rows_of, size_field
from .daily_figures import Answer

blueprint = Blueprint("admin_spend_rows", __name__)

_MAX_ROWS = 1000
_BATCH = 1000
# Object id of the audit row of a change to many.
_EVERYTHING = "*"
_LIST: Table = {
    "user_id": identifier(),
    "limit": whole(1, _MAX_ROWS),
    "page": page_field(),
    "page_size": size_field(_MAX_ROWS),
}


@blueprint.get("/spend/keys")
@takes(query=_LIST)
async def keys_that_spend() -> list[Answer]:
    """Rows of keys, the largest spend first, at most a thousand a page."""
    params = read_query(page=1)
    query = rows_of(VirtualKey).filter(VirtualKey.not_of_sessions())
    if params["user_id"]:
        query = query.filter(user_id=params["user_id"])
    return await _rows(query, params, "token")


@blueprint.get("/spend/users")
@takes(query=_LIST)
async def users_that_spend() -> list[Answer]:
    """Rows of users, the same way."""
    params = read_query(page=1)
    query = rows_of(User)
    if params["user_id"]:
        query = query.filter(user_id=params["user_id"])
    return await _rows(query, params, "user_id")


async def _rows(query: Any, params: Answer, unique: str) -> list[Answer]:
    size = params["page_size"] or params["limit"] or _MAX_ROWS
    rows = await query.order_by(*order_of("spend", "desc", unique)).offset((params["page"] - 1) * size).limit(size)
    return [row.to_json() for row in rows]


# ---- the price of a call -------------------------------------------------------------------------------------------


def _messages() -> Field:
    def read(value: Any) -> list[Any]:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise WrongValue("This must be a list of messages", "list_type")
        return value

    return Field(read, schema={"type": "array", "items": {"type": "object"}})


_CALL: Table = {"model": identifier(), "messages": _messages(), "completion_response": json_object()}


@blueprint.post("/spend/calculate")
@takes(body=_CALL)
async def calculate_spend() -> Answer:
    """The cost of an answer by its usage, or of a prompt by its size. Raises 400 for a model without a price."""
    sent = await read_body()
    response = sent.get("completion_response")
    if not response and not sent.get("messages"):
        raise bad_request("Bad Request - Either 'messages' or 'completion_response' must be provided")
    model = sent.get("model") or (response or {}).get("model")
    if not isinstance(model, str) or not model:
        raise bad_request("Bad Request - 'model' must be provided", "model")
    prices = _prices_of(model)
    if prices is None:
        raise bad_request(f"The price of model={model[:200]} is not known", "model")
    if response:
        usage = read_usage(msgspec.json.encode(response.get("usage"))) or Usage()
        return {"cost": float(cost_of(usage, prices).total)}
    size = len(msgspec.json.encode(sent["messages"]))
    return {"cost": float(estimate_of(size, 0, prices))}


def _prices_of(model: str) -> Prices | None:
    """Of a deployment behind the name, else of the price table: `provider/model` or a name of OpenAI."""
    for deployment in services().deployments.deployments_of(model):
        if deployment.prices is not None:
            return deployment.prices
    provider, slash, name = model.partition("/")
    return listed_prices(provider, name) if slash else listed_prices("openai", model)


# ---- back to zero ----------------------------------------------------------------------------------------------------


@blueprint.post("/global/spend/reset")
async def reset_spend() -> Answer:
    """Zero the spend of every key and team, in batches; totals of days and `total_spend` stay.

    Spend that is still on its way to the database is written first, so that it does not come back afterwards.
    """
    await services().ledger.flush()
    async with announced_once():
        keys = await _reset(VirtualKey, "token", KEYS)
        teams = await _reset(Team, "team_id", TEAMS)
    return {
        "message": "Spend for all API Keys and Teams reset successfully",
        "status": "success",
        "keys": keys,
        "teams": teams,
    }


async def _reset(model: type[VirtualKey] | type[Team], unique: str, table: str) -> int:
    """One transaction and one audit row for each batch; answers how many rows had spent anything."""
    number, after = 0, ""
    while True:
        ids: Sequence[str] = await _next_ids(model, unique, after)
        if not ids:
            return number
        async with transaction():
            rows = model.filter(**{f"{unique}__in": ids})
            await update_rows(rows, spend=Decimal(0), spend_epoch=F("spend_epoch") + 1, version=F("version") + 1)
            await record_change("updated", table, _EVERYTHING, after={"spend": 0, "from": ids[0], "to": ids[-1]})
        number, after = number + len(ids), ids[-1]


async def _next_ids(model: type[VirtualKey] | type[Team], unique: str, after: str) -> list[str]:
    query = model.filter(**{f"{unique}__gt": after}).exclude(spend=Decimal(0)).order_by(unique).limit(_BATCH)
    return [str(row[unique]) for row in await query.values(unique)]
