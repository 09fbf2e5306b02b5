"""Budgets that keys, members, customers, tags and organizations share by id."""

from __future__ import annotations

import uuid
from typing import Any

from quart import Blueprint
from tortoise.exceptions import IntegrityError

from ...auth.principal import current_principal
from ...errors import Conflict, InvalidRequest, PlainDenial
from ...models import Budget
from ...models.columns import json_value
from ...services import services
from ...web.fields import Table, bad_request, flag, identifier, read_body, read_query, takes, text, text_list
from ..audit.trail import BUDGETS, record_change
from ..changes import VERSION, change_row, expected_version
from ..paging import page_field, read_page, rows_of, size_field
from .budget_fields import BUDGET, WITH_BUDGET, budget_columns, unlink, uses_of

blueprint = Blueprint("admin_budgets", __name__)

Answer = dict[str, Any]
_CHANGED: Table = {**WITH_BUDGET, **VERSION}
_DOOMED: Table = {"id": identifier(), "budget_id": identifier(), "force": flag()}
_LISTED: Table = {"page": page_field(), "page_size": size_field(1000)}
_PAGED: Table = {"page": page_field(), "page_size": size_field(100), "sort": text(64), "search": identifier()}
_SORTS = ("created_at", "updated_at", "budget_id", "max_budget", "budget_reset_at")
_TYPES = {"max_budget": "Float", "soft_budget": "Float", "temp_budget_increase": "Float", "budget_duration": "String"}
_MEANINGS = {
    "max_budget": "Ceiling in USD; calls are refused above it.",
    "soft_budget": "USD at which a warning is due; nothing is refused.",
    "max_parallel_requests": "Calls that may run at the same time.",
    "tpm_limit": "Tokens per minute.",
    "rpm_limit": "Requests per minute.",
    "tpd_limit": "Tokens per day.",
    "budget_duration": "Period after which spend starts anew, as 24h or 30d.",
    "budget_reset_at": "When the current period ends.",
    "model_max_budget": "Ceilings per model.",
    "allowed_models": "Models that may be called.",
    "temp_budget_increase": "USD on top of the ceiling until temp_budget_expiry.",
    "temp_budget_expiry": "When the increase ends.",
}


async def _read_budget() -> Answer:
    """The body; what a budget cannot be is 400 in this route family's shape (E2)."""
    try:
        return await read_body()
    except InvalidRequest as refusal:
        raise _plain(refusal.message) from None


def _plain(message: str, status: int = 400) -> PlainDenial:
    return PlainDenial(message, status=status, is_nested=True)


async def _need(budget_id: str | None) -> Budget:
    if budget_id is None:
        raise _plain("budget_id is required")
    budget = await Budget.get_or_none(budget_id=budget_id)
    if budget is None:
        raise _plain(f"Budget not found: {budget_id}", 404)
    return budget


@blueprint.post("/budget/new")
@takes(body=WITH_BUDGET)
async def create_budget() -> Answer:
    sent = await _read_budget()
    budget_id, user_id = sent.get("budget_id") or str(uuid.uuid4()), current_principal().user_id
    try:
        async with services().database.transaction():
            budget = await Budget.create(
                budget_id=budget_id, **budget_columns(sent), created_by=user_id, updated_by=user_id
            )
            await record_change("created", BUDGETS, budget_id, after=budget.to_json())
    except IntegrityError:
        raise _plain(f"Budget with id '{budget_id}' already exists.") from None
    return budget.to_json()


@blueprint.post("/budget/update")
@takes(body=_CHANGED)
async def update_budget() -> Answer:
    sent = await _read_budget()
    budget = await _need(sent.get("budget_id"))
    columns = {**budget_columns(sent), "updated_by": current_principal().user_id}
    await change_row(budget, columns, table=BUDGETS, object_id=budget.budget_id, version=expected_version(sent))
    services().keys.forget_all()
    return budget.to_json()


@blueprint.post("/budget/info")
@takes(body={"budgets": text_list().required})
async def budgets_by_id() -> list[Answer]:
    """The rows that are there; ids that nobody has are left out."""
    wanted = (await read_body())["budgets"][:1000]
    if not wanted:
        raise _plain("Specify list of budget id's to query. Passed in=[]")
    return [row.to_json() for row in await Budget.filter(budget_id__in=wanted).order_by("budget_id")]


@blueprint.get("/budget/list")
@takes(query=_LISTED)
async def list_budgets() -> list[Answer]:
    """The newest 1000, or a page."""
    asked = read_query(page=1, page_size=1000)
    rows = Budget.all().order_by("-created_at", "budget_id").offset((asked["page"] - 1) * asked["page_size"])
    return [row.to_json() for row in await rows.limit(asked["page_size"])]


@blueprint.get("/management/v1/budgets")
@takes(query=_PAGED)
async def list_budgets_in_pages() -> Answer:
    """`sort` is a column, descending with `-` before or `:desc` behind it; newest first without."""
    asked = read_query(page=1, page_size=25)
    query = rows_of(Budget)
    if asked["search"]:
        query = query.filter(budget_id__icontains=asked["search"])
    page = await read_page(query, asked["page"], asked["page_size"], *_order(asked["sort"]))
    return {
        "data": [row.to_json() for row in page.rows],
        "total": page.total,
        "page": page.number,
        "page_size": page.size,
        "total_pages": page.total_pages,
    }


def _order(sort: str | None) -> tuple[str, ...]:
    name, _, direction = (sort or "-created_at").partition(":")
    column = name.removeprefix("-")
    if column not in _SORTS or direction not in ("", "asc", "desc"):
        raise bad_request(f"sort must be one of {', '.join(_SORTS)}, with - before it for descending", "sort")
    sign = "-" if name.startswith("-") or direction == "desc" else ""
    return (f"{sign}{column}",) if column == "budget_id" else (f"{sign}{column}", "budget_id")


@blueprint.get("/budget/settings")
@takes(query={"budget_id": identifier().required})
async def budget_settings() -> list[Answer]:
    """The fields of a budget with their values, for forms."""
    budget = await _need(read_query()["budget_id"])
    row = budget.to_json()
    return [
        {
            "field_name": name,
            "field_type": _TYPES.get(name) or _type_of(name),
            "field_description": _MEANINGS[name],
            "field_value": row[name],
            "stored_in_db": row[name] not in (None, {}, []),
            "field_default_value": None,
            "premium_field": False,
        }
        for name in BUDGET
    ]


def _type_of(name: str) -> str:
    kinds = {"integer": "Integer", "object": "Object", "array": "List"}
    return kinds.get(str(BUDGET[name].schema.get("type")), "String")


@blueprint.get("/provider/budgets")
async def provider_budgets() -> Answer:
    """Per provider of `router_settings.provider_budget_config`: its ceiling, and what this period has spent of it."""
    await services().shared_scopes.refresh()
    providers: dict[str, Answer] = {}
    for provider in services().settings.provider_budget_config or {}:
        scope = services().shared_scopes.of_provider(provider)
        if scope is not None:
            providers[provider] = {
                "budget_limit": json_value(scope.max_budget),
                "time_period": scope.period,
                "spend": json_value(scope.spend),
                "budget_reset_at": json_value(scope.resets_at),
            }
    return {"providers": providers}


@blueprint.post("/budget/delete")
@takes(body=_DOOMED)
async def delete_budget() -> Answer:
    """Refused while somebody uses it: whoever did would be unlimited. `force` unlinks all but organizations first."""
    sent = await read_body()
    budget = await _need(sent.get("id") or sent.get("budget_id"))
    async with services().database.transaction():
        uses = await uses_of(budget.budget_id)
        if "organizations" in uses or (uses and not sent.get("force")):
            raise Conflict(_in_use(budget.budget_id, uses), param="id")
        await unlink(budget.budget_id)
        await budget.delete()
        await record_change("deleted", BUDGETS, budget.budget_id, before={**budget.to_json(), "unlinked": uses})
    services().keys.forget_all()
    return budget.to_json()


def _in_use(budget_id: str, uses: dict[str, int]) -> str:
    listed = ", ".join(f"{count} {kind}" for kind, count in uses.items())
    way_out = "" if "organizations" in uses else ", or send force: true to leave them without a budget"
    return f"Budget '{budget_id}' is used by {listed}. Give them another one first{way_out}."
