"""OpenAI routes: read the request, call the gateway, answer in the dialect."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, cast

from quart import Blueprint, Response, jsonify, request

from ...auth.model_access import allows
from ...auth.principal import current_principal
from ...deployments.deployment import Deployment
from ...errors import GatewayError, PlainDenial
from ...protocols.dialect import Endpoint
from ...protocols.openai.request import CHAT, COMPLETIONS, EMBEDDINGS
from ...services import services
from ..call import EVENT_STREAM, Reply, add_call_headers, read_call

llm_blueprint = Blueprint("llm", __name__)
models_blueprint = Blueprint("models", __name__)

# One moment for every model: clients ask for the field, and nobody knows a better one.
_MODEL_CREATED = 1677610602


def _add(endpoint: Endpoint, view: Any) -> None:
    """Every alias of an operation: with and without /v1, and the two forms that put the model into the path."""
    for prefix in ("/v1", "", "/engines/<path:path_model>", "/openai/deployments/<path:path_model>"):
        llm_blueprint.add_url_rule(f"{prefix}{endpoint.path}", view_func=view, methods=["POST"])


async def chat_completions(path_model: str | None = None) -> Response:
    return await answer_call(CHAT, path_model)


async def completions(path_model: str | None = None) -> Response:
    return await answer_call(COMPLETIONS, path_model)


async def embeddings(path_model: str | None = None) -> Response:
    return await answer_call(EMBEDDINGS, path_model)


_add(CHAT, chat_completions)
_add(COMPLETIONS, completions)
_add(EMBEDDINGS, embeddings)


async def answer_call(endpoint: Endpoint, path_model: str | None) -> Response:
    """Read the current request as a call, and answer it. Raises a GatewayError that names the call."""
    body = await read_body()
    call = read_call(
        cast(Mapping[str, str], request.headers),
        principal=current_principal(),
        endpoint=endpoint,
        path=request.path,
        body=body,
        ip_address=request.remote_addr,
        user_header=services().settings.user_header_name,
        path_model=path_model,
    )
    try:
        return _response(await services().gateway.run(call))
    except GatewayError as error:
        add_call_headers(error, call)
        raise


async def refuse_unfit_keys() -> None:
    """Before a view that reads much, or that answers without the gateway: 401 or 403 for a key that may not be used."""
    if request.method != "OPTIONS":
        current_principal().refuse_unfit(request.path, "llm")


async def read_body() -> bytes:
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
        return Response(reply.body, content_type=reply.content_type or "application/json", headers=reply.headers)
    kind = {"Content-Type": reply.content_type} if reply.content_type else EVENT_STREAM
    response = Response(reply.frames, headers={**reply.headers, **kind})
    # Quart would cut a stream that lives longer than its default.
    response.timeout = None
    return response


@models_blueprint.get("/v1/models")
@models_blueprint.get("/models")
async def list_models() -> Response:
    """The models that the caller may ask for; access groups count as models when they are asked for.

    A wildcard stands for the models that are known behind it, and itself only for who asks for it.
    """
    names, groups = _visible(), list[str]()
    if _asks_for("include_model_access_groups") or _asks_for("only_model_access_groups"):
        catalog, team_id = services().deployments, current_principal().team_id
        reached = {catalog.group_of(name, team_id) for name in names}
        groups = [name for name, members in catalog.access_groups().items() if _any_of(members, reached)]
    if not _asks_for("return_wildcard_routes"):
        names = [name for name in names if "*" not in name]
    shown = groups if _asks_for("only_model_access_groups") else [*names, *groups]
    return jsonify({"data": [_model(name) for name in dict.fromkeys(shown)], "object": "list"})


def _asks_for(flag: str) -> bool:
    return request.args.get(flag, "").lower() in ("true", "1", "yes", "on")


def _visible() -> list[str]:
    """The model names of this instance that the caller may ask for, those of its own team without a grant.

    An alias is there for who was granted it, its group, or an access group of that.
    """
    catalog = services().deployments
    configured = catalog.names(current_principal().team_id)
    names = (model for name in configured for model in (name, *catalog.known_models_of(name)))
    return [name for name in names if _may_ask_for(name)]


def _may_ask_for(name: str) -> bool:
    principal, catalog = current_principal(), services().deployments
    group, words = catalog.grants_of(name, principal.team_id)
    return allows(principal, group, words, is_own_model=catalog.belongs_to_team(group, principal.team_id))


def _any_of(deployments: Iterable[Deployment], names: Iterable[str]) -> bool:
    return not {deployment.public_name for deployment in deployments}.isdisjoint(names)


@models_blueprint.get("/v1/models/<path:model_id>")
@models_blueprint.get("/models/<path:model_id>")
async def show_model(model_id: str) -> Response:
    """One model that the caller may ask for."""
    if model_id not in _visible():
        raise PlainDenial(f"The model `{model_id}` does not exist or is not accessible", status=404)
    return jsonify(_model(model_id))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _MODEL_CREATED, "owned_by": "openai"}
