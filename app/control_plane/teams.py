"""Teams of one worker: list and create."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Response, request, url_for

from .blocks import Context, Page
from .formatting import metered
from .forms import PERIODS, Form, jsonable
from .key_form import public_models
from .rendering import page
from .session import go, requires_worker_session
from .worker_client import Row, WorkerClient
from .worker_errors import WorkerRefused

blueprint = Blueprint("teams", __name__, url_prefix="/workers/<worker_id>/teams")


async def _read_teams(client: WorkerClient) -> Context:
    return {"teams": _sorted(await client.list_teams())}


def _sorted(teams: list[Row]) -> list[Row]:
    return sorted(map(metered, teams), key=lambda team: str(team.get("team_alias") or team["team_id"]).lower())


async def _read_models(client: WorkerClient) -> Context:
    return {"models": public_models(await client.list_models())}


_PAGE = Page("pages/teams.html", reads=(_read_teams,))


@blueprint.get("")
@requires_worker_session
async def list_teams(client: WorkerClient) -> Response:
    return await _PAGE.show(client)


@blueprint.get("/new")
@requires_worker_session
async def new_team(client: WorkerClient) -> Response:
    return await _form_page(client, Form({"models": []}))


async def _form_page(client: WorkerClient, form: Form) -> Response:
    context = await _PAGE.read(client, _read_models)
    status = 200 if form.is_valid else 422
    return await page(_PAGE.template, status=status, form=form, periods=PERIODS, **context)


@blueprint.post("")
@requires_worker_session
async def create_team(client: WorkerClient) -> Response:
    form = Form.submitted(await request.form, lists=("models",))
    fields = _fields(form)
    if not form.is_valid:
        return await _form_page(client, form)
    try:
        await client.create_team(fields)
    except WorkerRefused as error:
        form.refused(error)
        return await _form_page(client, form)
    return go(url_for("console.teams.list_teams", worker_id=client.worker.worker_id))


def _fields(form: Form) -> dict[str, Any]:
    fields = {
        "team_alias": form.required("team_alias", "Enter a name for the team."),
        "models": form.values.get("models", []),
        "max_budget": form.amount("max_budget"),
        "budget_duration": form.text("budget_duration"),
        "rpm_limit": form.whole("rpm_limit"),
        "tpm_limit": form.whole("tpm_limit"),
    }
    return jsonable({name: value for name, value in fields.items() if value not in (None, "", [])})
