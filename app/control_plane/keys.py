"""Virtual keys of one worker: list, create (the secret is shown once), look, edit, block, delete."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from quart import Blueprint, Response, request, url_for

from .activity import daily_chart
from .blocks import Block, Context, Page, read_all
from .formatting import whole_number
from .forms import PERIODS, Form
from .key_form import (
    FORM_READS,
    LISTS,
    LIVES,
    changed_fields,
    describe,
    form_of,
    new_key_fields,
    read_models,
    read_teams,
    try_it,
)
from .rendering import page
from .session import go, requires_worker_session
from .worker_client import PAGE_SIZE, Row, WorkerClient
from .worker_errors import ODD_ANSWER, WorkerError, WorkerRefused

blueprint = Blueprint("keys", __name__, url_prefix="/workers/<worker_id>/keys")
_SORTS = ("key_alias", "spend", "created_at")
STATUSES = (("", "Any status"), ("active", "Active"), ("expired", "Expired"), ("revoked", "Blocked"))


def _filters() -> dict[str, Any]:
    """The list's query: only known values, so a wrong link shows the plain list instead of an error."""
    sort, order = request.args.get("sort", "created_at"), request.args.get("order", "desc")
    status = request.args.get("status", "")
    return {
        "alias": request.args.get("alias", "").strip(),
        "team": request.args.get("team", ""),
        "status": status if status in dict(STATUSES) else "",
        "sort": sort if sort in _SORTS else "created_at",
        "order": order if order in ("asc", "desc") else "desc",
        "page": whole_number(request.args.get("page", "")) or 1,
    }


def _listing(answer: Row, filters: dict[str, Any]) -> Context:
    """One page of keys. An empty `answer` is an empty list."""
    return {
        "keys": [describe(key) for key in answer.get("keys") or []],
        "total": int(answer.get("total_count") or 0),
        "pages": int(answer.get("total_pages") or 0),
        "first": (filters["page"] - 1) * PAGE_SIZE + 1,
        "is_filtered": bool(filters["alias"] or filters["team"] or filters["status"]),
        "filters": filters,
        "statuses": STATUSES,
    }


async def _read_keys(client: WorkerClient) -> Context:
    filters = _filters()
    answer = await client.list_keys(
        page=filters["page"],
        search=filters["alias"],
        team_id=filters["team"],
        status=filters["status"],
        sort_by=filters["sort"],
        sort_order=filters["order"],
    )
    return _listing(answer, filters)


# The rows name their teams themselves; the list of teams is for the filter.
_PAGE = Page("pages/keys.html", blocks=(Block("keys", "table", (_read_keys,)),), reads=(read_teams,))


@blueprint.get("")
@requires_worker_session
async def list_keys(client: WorkerClient) -> Response:
    return await _PAGE.show(client)


@blueprint.get("/new")
@requires_worker_session
async def new_key(client: WorkerClient) -> Response:
    return await _form_page(client, Form({"models": [], "team_id": request.args.get("team", "")}))


async def _form_page(client: WorkerClient, form: Form) -> Response:
    context = await _PAGE.read(client, *FORM_READS)
    status = 200 if form.is_valid else 422
    return await page(_PAGE.template, status=status, form=form, lives=LIVES, periods=PERIODS, **context)


@blueprint.post("")
@requires_worker_session
async def create_key(client: WorkerClient) -> Response:
    form = Form.submitted(await request.form, lists=LISTS)
    fields = new_key_fields(form)
    if not form.is_valid:
        return await _form_page(client, form)
    try:
        created = await client.create_key(fields)
    except WorkerRefused as error:
        form.refused(error)
        return await _form_page(client, form)
    return await _show_secret(client, created)


async def _show_secret(client: WorkerClient, created: Row) -> Response:
    """The secret is shown even when the list behind it cannot be read now: there is no second time."""
    try:
        context = await _PAGE.read(client, read_models)
    except (WorkerError, *ODD_ANSWER):
        context = {**_listing({}, _filters()), "teams": [], "team_names": {}, "models": []}
    url = request.host_url.rstrip("/") if client.worker.is_self else client.worker.url
    key = describe({**created, "key": None})
    command = try_it(url, str(created["key"]), list(created.get("models") or []), context["models"])
    return await page(_PAGE.template, created=key, secret=created["key"], command=command, **context)


@blueprint.get("/<key_hash>")
@requires_worker_session
async def show_key(client: WorkerClient, key_hash: str) -> Response:
    return await _key_page(client, key_hash)


async def _key_page(
    client: WorkerClient,
    key_hash: str,
    *,
    form: Form | None = None,
    is_editing: bool = False,
    is_deleting: bool = False,
    problem: str = "",
) -> Response:
    """The key, and in front of it the form (`form`, or with `is_editing` one of the stored values) or the deletion."""
    is_editing = is_editing or form is not None
    key, activity, requests, context = await asyncio.gather(
        client.key_info(key_hash),
        _activity(client, key_hash),
        _requests(client, key_hash),
        read_all(client, FORM_READS if is_editing else (read_teams,)),
    )
    described = describe(key)
    return await page(
        "pages/key.html",
        status=422 if problem or (form and not form.is_valid) else 200,
        key=described,
        activity=activity,
        requests=requests,
        form=form or (form_of(key) if is_editing else None),
        lives=(("keep", _current_life(described)), *LIVES),
        periods=_periods(key),
        is_deleting=is_deleting,
        problem=problem,
        **context,
    )


def _current_life(key: Row) -> str:
    expires_at = key["expires_at"]
    return f"As it is: {expires_at:%Y-%m-%d %H:%M} UTC" if expires_at else "As it is: never"


def _periods(key: Row) -> tuple[tuple[str, str], ...]:
    """The stored period stays a choice even when it is none of ours."""
    stored = key.get("budget_duration")
    return PERIODS if not stored or stored in dict(PERIODS) else ((stored, f"Every {stored}"), *PERIODS)


async def _activity(client: WorkerClient, key_hash: str) -> Any:
    try:
        days = await client.daily_activity(days=30, api_key=key_hash)
    except WorkerRefused:
        return None
    return daily_chart(days, days=30, group="", today=datetime.now(UTC).date(), height=180.0)


async def _requests(client: WorkerClient, key_hash: str) -> list[Row] | None:
    try:
        return await client.recent_requests(key_hash)
    except WorkerRefused:
        return None


@blueprint.get("/<key_hash>/edit")
@requires_worker_session
async def edit_key(client: WorkerClient, key_hash: str) -> Response:
    return await _key_page(client, key_hash, is_editing=True)


@blueprint.post("/<key_hash>/edit")
@requires_worker_session
async def save_key(client: WorkerClient, key_hash: str) -> Response:
    form = Form.submitted(await request.form, lists=LISTS)
    key = await client.key_info(key_hash)
    fields = changed_fields(form, key)
    if not form.is_valid:
        return await _key_page(client, key_hash, form=form)
    try:
        if fields:
            await client.update_key(key_hash, fields)
    except WorkerRefused as error:
        form.refused(error)
        return await _key_page(client, key_hash, form=form)
    return _back_to_key(client, key_hash)


def _back_to_key(client: WorkerClient, key_hash: str) -> Response:
    return go(url_for("console.keys.show_key", worker_id=client.worker.worker_id, key_hash=key_hash))


@blueprint.post("/<key_hash>/block")
@requires_worker_session
async def block_key(client: WorkerClient, key_hash: str) -> Response:
    await client.block_key(key_hash)
    return _back_to_key(client, key_hash)


@blueprint.post("/<key_hash>/unblock")
@requires_worker_session
async def unblock_key(client: WorkerClient, key_hash: str) -> Response:
    await client.unblock_key(key_hash)
    return _back_to_key(client, key_hash)


@blueprint.get("/<key_hash>/delete")
@requires_worker_session
async def confirm_deletion(client: WorkerClient, key_hash: str) -> Response:
    return await _key_page(client, key_hash, is_deleting=True)


@blueprint.post("/<key_hash>/delete")
@requires_worker_session
async def delete_key(client: WorkerClient, key_hash: str) -> Response:
    """In production the alias must be typed; a mistyped one deletes nothing."""
    if client.worker.environment_kind == "production":
        key = describe(await client.key_info(key_hash))
        if (await request.form).get("confirm", "").strip() != key["name"]:
            sentence = f"Type {key['name']} exactly as it is written here."
            return await _key_page(client, key_hash, is_deleting=True, problem=sentence)
    await client.delete_key(key_hash)
    return go(url_for("console.keys.list_keys", worker_id=client.worker.worker_id))
