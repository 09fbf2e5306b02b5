"""Deployments of one worker: list, add, delete those that live in its database."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from quart import Blueprint, Response, abort, request, url_for

from .blocks import Context, Page
from .forms import Form
from .rendering import page
from .session import go, requires_worker_session
from .worker_client import Row, WorkerClient
from .worker_errors import WorkerRefused

blueprint = Blueprint("models", __name__, url_prefix="/workers/<worker_id>/models")


def _describe(deployment: Row) -> Row:
    info, params = deployment.get("model_info") or {}, deployment.get("litellm_params") or {}
    target = str(params.get("model") or "")
    provider, _, name = target.rpartition("/")
    return {
        "id": str(info.get("id") or ""),
        "name": str(deployment["model_name"]),
        "target": name or target,
        "provider": info.get("litellm_provider") or params.get("custom_llm_provider") or provider or "openai",
        "address": params.get("api_base"),
        "mode": info.get("mode"),
        "input_price": info.get("input_cost_per_token"),
        "output_price": info.get("output_cost_per_token"),
        "is_stored": bool(info.get("db_model")),
        "is_blocked": bool(info.get("blocked")),
    }


async def _read_deployments(client: WorkerClient) -> Context:
    rows = [_describe(deployment) for deployment in await client.list_models()]
    return {"models": sorted(rows, key=lambda row: (row["name"], row["target"]))}


_PAGE = Page("pages/models.html", reads=(_read_deployments,))


@blueprint.get("")
@requires_worker_session
async def list_models(client: WorkerClient) -> Response:
    return await _PAGE.show(client)


@blueprint.get("/new")
@requires_worker_session
async def new_model(client: WorkerClient) -> Response:
    return await _form_page(client, Form())


async def _form_page(client: WorkerClient, form: Form) -> Response:
    form.forget_secrets()
    context = await _PAGE.read(client)
    return await page(_PAGE.template, status=200 if form.is_valid else 422, form=form, **context)


@blueprint.post("")
@requires_worker_session
async def create_model(client: WorkerClient) -> Response:
    form = Form.submitted(await request.form, secrets=("api_key",))
    fields = _fields(form)
    if not form.is_valid:
        return await _form_page(client, form)
    try:
        await client.create_model(fields)
    except WorkerRefused as error:
        form.refused(error)
        return await _form_page(client, form)
    return go(url_for("console.models.list_models", worker_id=client.worker.worker_id))


def _fields(form: Form) -> dict[str, Any]:
    """Prices are typed per million tokens and sent per token."""
    params: dict[str, Any] = {
        "model": form.required("model", "Enter the provider's model, for example openai/gpt-5-mini."),
        "api_base": form.text("api_base"),
        "api_key": form.text("api_key"),
    }
    if params["api_base"] and not params["api_base"].startswith(("http://", "https://")):
        form.errors["api_base"] = "Enter an address that starts with https:// or http://."
    for name in ("input_cost_per_token", "output_cost_per_token"):
        price = form.amount(name)
        params[name] = None if price is None else float(price / Decimal(1_000_000))
    name = form.required("model_name", "Enter the name that clients will ask for.")
    sent = {field: value for field, value in params.items() if value is not None}
    return {"model_name": name, "litellm_params": sent, "model_info": {}}


@blueprint.get("/<path:model_id>/delete")
@requires_worker_session
async def confirm_deletion(client: WorkerClient, model_id: str) -> Response:
    context = await _PAGE.read(client)
    models = context["models"]
    doomed = next((model for model in models if model["id"] == model_id), None)
    if doomed is None:
        abort(404)
    siblings = sum(model["name"] == doomed["name"] for model in models) - 1
    return await page(_PAGE.template, doomed=doomed, siblings=siblings, **context)


@blueprint.post("/<path:model_id>/delete")
@requires_worker_session
async def delete_model(client: WorkerClient, model_id: str) -> Response:
    await client.delete_model(model_id)
    return go(url_for("console.models.list_models", worker_id=client.worker.worker_id))
