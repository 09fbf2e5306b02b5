"""Users of one worker: list and create."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Response, request, url_for

from .blocks import Block, Context, Page
from .formatting import metered, whole_number
from .forms import PERIODS, Form, jsonable
from .rendering import page
from .session import go, requires_worker_session
from .worker_client import PAGE_SIZE, WorkerClient
from .worker_errors import WorkerRefused

blueprint = Blueprint("users", __name__, url_prefix="/workers/<worker_id>/users")
ROLES = (
    ("internal_user", "Internal user", "own keys, own spend"),
    ("internal_user_viewer", "Internal viewer", "own spend, read only"),
    ("proxy_admin", "Admin", "everything on this worker"),
    ("proxy_admin_viewer", "Admin viewer", "everything, read only"),
)


async def _read_users(client: WorkerClient) -> Context:
    email, number = request.args.get("email", "").strip(), whole_number(request.args.get("page", "")) or 1
    answer = await client.list_users(page=number, user_email=email)
    return {
        "users": [metered(user) for user in answer.get("users") or []],
        "total": int(answer.get("total") or 0),
        "pages": int(answer.get("total_pages") or 0),
        "first": (number - 1) * PAGE_SIZE + 1,
        "filters": {"email": email, "page": number},
        "is_filtered": bool(email),
        "role_names": {role: name for role, name, _ in ROLES},
    }


_PAGE = Page("pages/users.html", blocks=(Block("users", "table", (_read_users,)),))


@blueprint.get("")
@requires_worker_session
async def list_users(client: WorkerClient) -> Response:
    return await _PAGE.show(client)


@blueprint.get("/new")
@requires_worker_session
async def new_user(client: WorkerClient) -> Response:
    return await _form_page(client, Form({"user_role": "internal_user"}))


async def _form_page(client: WorkerClient, form: Form) -> Response:
    context = await _PAGE.read(client)
    status = 200 if form.is_valid else 422
    return await page(_PAGE.template, status=status, form=form, periods=PERIODS, roles=ROLES, **context)


@blueprint.post("")
@requires_worker_session
async def create_user(client: WorkerClient) -> Response:
    form = Form.submitted(await request.form)
    fields = _fields(form)
    if not form.is_valid:
        return await _form_page(client, form)
    try:
        await client.create_user(fields)
    except WorkerRefused as error:
        form.refused(error)
        return await _form_page(client, form)
    return go(url_for("console.users.list_users", worker_id=client.worker.worker_id))


def _fields(form: Form) -> dict[str, Any]:
    email = form.required("user_email", "Enter the person's e-mail address.")
    if email and "@" not in email.strip("@"):
        form.errors["user_email"] = "Enter an e-mail address, for example ada@acme.example."
    fields = {
        "user_email": email,
        "user_alias": form.text("user_alias"),
        "user_role": form.text("user_role"),
        "max_budget": form.amount("max_budget"),
        "budget_duration": form.text("budget_duration"),
    }
    return jsonable({name: value for name, value in fields.items() if value not in (None, "")})
