"""OpenAI routes: read the request, call the gateway, answer in the dialect."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from typing import Any, cast

from quart import Blueprint, Response, jsonify, request

from ..auth.model_access import allows
from ..auth.principal import current_principal
from ..deployment import Deployment
from ..errors import GatewayError, InvalidRequest, PlainDenial
from ..protocols.openai import CHAT, COMPLETIONS, EMBEDDINGS, Endpoint
from ..services import services
from ..version import VERSION
from .call import Call, Reply

llm_blueprint = Blueprint("llm", __name__)
models_blueprint = Blueprint("models", __name__)

# The contract writes one moment for every model (llm.md §8).
_MODEL_CREATED = 1677610602
_EVENT_STREAM = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}


def _add(endpoint: Endpoint, view: Any) -> None:
    """Every alias of an operation: with and without /v1, and the two forms that put the model into the path."""
    for prefix in ("/v1", "", "/engines/<path:path_model>", "/openai/deployments/<path:path_model>"):
        llm_blueprint.add_url_rule(f"{prefix}{endpoint.path}", view_func=view, methods=["POST"])


async def chat_completions(path_model: str | None = None) -> Response:
    return await _run(CHAT, path_model)


async def completions(path_model: str | None = None) -> Response:
    return await _run(COMPLETIONS, path_model)


async def embeddings(path_model: str | None = None) -> Response:
    return await _run(EMBEDDINGS, path_model)


_add(CHAT, chat_completions)
_add(COMPLETIONS, completions)
_add(EMBEDDINGS, embeddings)


async def _run(endpoint: Endpoint, path_model: str | None) -> Response:
    headers = request.headers
    body = await _body()
    call = Call(
        principal=current_principal(),
        endpoint=endpoint,
        path=request.path,
        body=body,
        call_id=_call_id(headers.get("x-litellm-call-id")),
        path_model=path_model,
        end_user=_end_user(),
        tags=[tag.strip()[:255] for tag in headers.get("x-litellm-tags", "").split(",") if tag.strip()][:50],
        session_id=headers.get("x-litellm-session-id") or headers.get("x-litellm-trace-id"),
        ip_address=request.remote_addr,
        user_agent=headers.get("user-agent", ""),
        timeout=_seconds(headers.get("x-litellm-timeout"), "x-litellm-timeout"),
        stream_timeout=_seconds(headers.get("x-litellm-stream-timeout"), "x-litellm-stream-timeout"),
        num_retries=_retries(headers.get("x-litellm-num-retries")),
    )
    try:
        return _response(await services().gateway.run(call))
    except GatewayError as error:
        # What a support ticket needs, on every refusal.
        error.headers |= {
            "x-litellm-call-id": call.call_id,
            "x-litellm-version": VERSION,
            "x-litellm-response-cost": "0",
        }
        raise


async def _body() -> bytes:
    """The raw body of the request.

    Quart reads it below `asyncio.wait_for`, which in Python 3.11 forgets a cancellation that meets the last byte: a
    client that sends and leaves at once would be served, and its stream kept open, with nobody there.
    """
    body = cast(bytes, await request.get_data(cache=False, as_text=False))
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
    return body


def _response(reply: Reply) -> Response:
    if reply.frames is None:
        return Response(reply.body, content_type="application/json", headers=reply.headers)
    response = Response(reply.frames, headers={**reply.headers, **_EVENT_STREAM})
    # Quart would cut a stream that lives longer than its default.
    response.timeout = None
    return response


def _end_user() -> str:
    """Whom the headers name; the body may name somebody too, and then the header wins."""
    own_header = services().settings.user_header_name
    names = [*([own_header] if own_header else []), "x-litellm-customer-id", "x-litellm-end-user-id"]
    return next((request.headers[name] for name in names if request.headers.get(name)), "")


def _call_id(given: str | None) -> str:
    return given if given and len(given) <= 256 and given.isascii() and given.isprintable() else str(uuid.uuid4())


def _retries(given: str | None) -> int | None:
    if given is None:
        return None
    if not (given.isdigit() and int(given) <= 20):
        name = "x-litellm-num-retries"
        raise InvalidRequest(f"{name} must be a whole number from 0 to 20", param=name)
    return int(given)


def _seconds(given: str | None, name: str) -> float | None:
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1
    if not 0 < seconds < 86_400:
        raise InvalidRequest(f"{name} must be a number of seconds above zero", param=name)
    return seconds


@models_blueprint.get("/v1/models")
@models_blueprint.get("/models")
async def list_models() -> Response:
    """The models that the caller may ask for; access groups count as models when they are asked for."""
    names, groups = _visible(), list[str]()
    if _asks_for("include_model_access_groups") or _asks_for("only_model_access_groups"):
        groups = [name for name, members in services().deployments.access_groups().items() if _any_of(members, names)]
    shown = groups if _asks_for("only_model_access_groups") else [*names, *groups]
    return jsonify({"data": [_model(name) for name in dict.fromkeys(shown)], "object": "list"})


def _asks_for(flag: str) -> bool:
    return request.args.get(flag, "").lower() in ("true", "1", "yes", "on")


def _visible() -> list[str]:
    """The model names of this instance that the caller may ask for, those of its own team without a grant."""
    principal, catalog = current_principal(), services().deployments
    team_id = principal.team_id
    return [
        name
        for name in catalog.names(team_id)
        if allows(
            principal,
            name,
            catalog.groups_of(name, team_id),
            is_own_model=catalog.belongs_to_team(name, team_id),
        )
    ]


def _any_of(deployments: Iterable[Deployment], names: Iterable[str]) -> bool:
    return not {one.public_name for one in deployments}.isdisjoint(names)


@models_blueprint.get("/v1/models/<path:model_id>")
@models_blueprint.get("/models/<path:model_id>")
async def show_model(model_id: str) -> Response:
    """One model that the caller may ask for."""
    if model_id not in _visible():
        raise PlainDenial(f"The model `{model_id}` does not exist or is not accessible", status=404)
    return jsonify(_model(model_id))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _MODEL_CREATED, "owned_by": "openai"}
