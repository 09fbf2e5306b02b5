"""Routes that answer about a call without making it: its tokens, what a provider would get, what a model takes."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from quart import Blueprint, Response, jsonify, request

from ...auth.model_access import refuse_model_of_key, refuse_model_of_others
from ...auth.principal import Principal, current_principal
from ...deployments.deployment import Deployment
from ...errors import InvalidRequest
from ...protocols.json_fields import object_of
from ...protocols.openai.media import IMAGES, MODERATIONS, RERANK, SPEECH
from ...protocols.openai.params import params_of_mode
from ...protocols.openai.request import CHAT, COMPLETIONS, EMBEDDINGS
from ...services import services
from ..token_count import count_tokens
from .openai import read_body, refuse_unfit_keys

utilities_blueprint = Blueprint("utilities", __name__)
utilities_blueprint.before_request(refuse_unfit_keys)

# What can be shown as JSON; a form with files cannot.
_ENDPOINTS = {
    endpoint.call_type[1:]: endpoint
    for endpoint in (CHAT, COMPLETIONS, EMBEDDINGS, IMAGES, SPEECH, MODERATIONS, RERANK)
}
_COUNTED = ("messages", "prompt")


@utilities_blueprint.post("/utils/token_counter")
async def count_tokens_of_request() -> Response:
    """The tokens of `messages` or of a `prompt`, counted here."""
    body = object_of(await read_body())
    model = _model_of(body)
    if all(body.get(name) is None for name in _COUNTED):
        raise InvalidRequest("prompt or messages must be provided", param="messages")
    _check_counted(body)
    deployment = _deployment(current_principal(), model)
    counted = await asyncio.to_thread(count_tokens, deployment.upstream_model, body)
    return jsonify(
        {
            "total_tokens": counted.total,
            "request_model": model,
            "model_used": deployment.upstream_model,
            "tokenizer_type": "openai_tokenizer" if counted.is_exact else "estimate",
            "count_source": "local_tokenizer" if counted.is_exact else "local_estimate",
            "original_response": None,
            "error": False,
            "error_message": None,
            "status_code": None,
        }
    )


def _check_counted(body: dict[str, Any]) -> None:
    """Raises InvalidRequest (400) for what no call could hold."""
    for name in ("messages", "tools"):
        value = body.get(name)
        if value is not None and not (isinstance(value, list) and all(isinstance(item, dict) for item in value)):
            raise InvalidRequest(f"'{name}' must be a list of objects.", param=name)
    if not isinstance(body.get("prompt"), str | list | None):
        raise InvalidRequest("'prompt' must be text or a list.", param="prompt")


@utilities_blueprint.post("/utils/transform_request")
async def transform_request() -> Response:
    """What a provider would get for a `request_body`. Only who sees all learns where it would go."""
    body = object_of(await read_body())
    given, kind = body.get("request_body"), str(body.get("call_type") or "")
    endpoint = _ENDPOINTS.get(kind.removeprefix("a")) or _ENDPOINTS.get(kind)
    if endpoint is None:
        raise InvalidRequest(f"'call_type' must be one of {', '.join(_ENDPOINTS)}.", param="call_type")
    if not isinstance(given, dict):
        raise InvalidRequest("'request_body' must be an object.", param="request_body")
    asked = endpoint.read(msgspec.json.encode(given), None, "application/json")
    principal = current_principal()
    deployment = _deployment(principal, asked.model)
    sent = asked.upstream_body(deployment.upstream_model, deployment.public_defaults())
    return jsonify(
        {
            "raw_request_api_base": deployment.url(endpoint.path) if principal.can_read_all else None,
            "raw_request_body": msgspec.json.decode(sent),
            "raw_request_headers": {"Content-Type": asked.content_type, **dict.fromkeys(deployment.headers, "****")},
            "error": None,
        }
    )


@utilities_blueprint.get("/utils/supported_openai_params")
async def supported_openai_params() -> Response:
    """The parameters that a model takes."""
    deployment = _deployment(current_principal(), _asked_model())
    return jsonify({"supported_openai_params": list(params_of_mode(_mode(deployment)))})


@utilities_blueprint.get("/utils/model_info")
async def model_info() -> Response:
    """What is known about a model: prices in USD per token, sizes, abilities."""
    deployment = _deployment(current_principal(), _asked_model())
    info, prices = deployment.model_info, deployment.prices
    input_cost, output_cost = deployment.input_cost_per_token, deployment.output_cost_per_token
    return jsonify(
        {
            **{name: value for name, value in info.items() if name.startswith("supports_")},
            "key": deployment.upstream_model,
            "litellm_provider": deployment.provider.name,
            "mode": _mode(deployment),
            "max_tokens": info.get("max_tokens"),
            "max_input_tokens": info.get("max_input_tokens") or (prices.max_input_tokens if prices else None),
            "max_output_tokens": info.get("max_output_tokens"),
            "input_cost_per_token": None if input_cost is None else float(input_cost),
            "output_cost_per_token": None if output_cost is None else float(output_cost),
            "supported_openai_params": list(params_of_mode(_mode(deployment))),
        }
    )


def _asked_model() -> str:
    model = request.args.get("model", "")
    if not model:
        raise InvalidRequest("Missing required parameter: 'model'.", param="model")
    return model


def _model_of(body: dict[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("Missing required parameter: 'model'.", param="model")
    return model


def _mode(deployment: Deployment) -> str:
    declared = deployment.model_info.get("mode")
    return str(declared or ("embedding" if "embed" in deployment.upstream_model.lower() else "chat"))


def _deployment(principal: Principal, model: str) -> Deployment:
    """The first deployment of a model. Raises the refusals of a call, and 400 for a model that nobody serves."""
    catalog, team_id = services().deployments, principal.team_id
    services().accounts.refuse(principal, request.path)
    group, groups = catalog.grants_of(principal.aliases.get(model, model), team_id)
    refuse_model_of_key(principal, group, groups)
    refuse_model_of_others(principal, group, groups, is_own_model=catalog.belongs_to_team(group, team_id))
    deployments = catalog.deployments_of(group, team_id)
    if not deployments:
        raise InvalidRequest(
            f"litellm.BadRequestError: You passed in model={model}. There are no healthy deployments for this model",
            param="model",
        )
    return deployments[0]
