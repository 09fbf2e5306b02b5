"""Routes of files and batches, which providers keep and run: read, ask the provider, answer with our own ids.

Each with and without /v1, and below the name of a provider.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from quart import Blueprint, Response, jsonify, request

from ...auth.principal import current_principal
from ...protocols.json_fields import object_of
from ...services import services
from ..byte_stream import safe_type
from ..files.batches import ProviderBatches
from ..files.files import ProviderFiles, Wanted
from ..upstream.client import Answer
from .openai import read_body

files_blueprint = Blueprint("files", __name__)

_BELOW_PROVIDER = "/<provider>/v1"
# Spelled out, since everything below these two is passed on otherwise.
_SPELLED = ("openai", "azure")


def _add(path: str, view: Any, method: str) -> None:
    for prefix in ("/v1", "", _BELOW_PROVIDER):
        files_blueprint.add_url_rule(f"{prefix}{path}", view_func=view, methods=[method])
    for name in _SPELLED:
        files_blueprint.add_url_rule(f"/{name}/v1{path}", view_func=view, methods=[method], defaults={"provider": name})


def _files() -> ProviderFiles:
    return ProviderFiles(services().accounts)


def _batches() -> ProviderBatches:
    return ProviderBatches(services().accounts, services().batch_watcher)


def _wanted(provider: str | None) -> Wanted:
    """Which account the address, a query or a header names; a form may name one too, and then it wins."""
    query, headers = request.args, request.headers
    models = query.get("target_model_names") or query.get("model") or headers.get("x-litellm-model")
    named = query.get("provider") or query.get("custom_llm_provider") or headers.get("custom-llm-provider")
    return Wanted(model=(models or "").partition(",")[0].strip() or None, provider=provider or named or None)


# ---- files ---------------------------------------------------------------------------------------------------------


async def upload_file(provider: str | None = None) -> Response:
    """Keep a file at a provider; a form with `file` and `purpose`."""
    body, kind = await read_body(), request.headers.get("content-type", "")
    return jsonify(await _files().upload(current_principal(), request.path, body, kind, _wanted(provider)))


async def list_files(provider: str | None = None) -> Response:
    """The caller's files at one provider."""
    asked = request.args.to_dict()
    return jsonify(await _files().list_own(current_principal(), request.path, _wanted(provider), asked))


async def show_file(file_id: str, provider: str | None = None) -> Response:
    """What is known about a file."""
    return jsonify(await _files().show(current_principal(), request.path, file_id))


async def delete_file(file_id: str, provider: str | None = None) -> Response:
    """Delete a file at its provider."""
    return jsonify(await _files().delete(current_principal(), request.path, file_id))


async def file_content(file_id: str, provider: str | None = None) -> Response:
    """The bytes of a file, passed on while they come."""
    answer = await _files().content(current_principal(), request.path, file_id)
    chunks = _chunks(answer)
    # Only a generator that has begun closes the answer when it is dropped.
    await anext(chunks)
    response = Response(chunks, content_type=safe_type(answer.content_type))
    # Quart would cut a file that takes longer than its default.
    response.timeout = None
    return response


async def _chunks(answer: Answer) -> AsyncGenerator[bytes]:
    try:
        yield b""
        async for chunk in answer.chunks():
            yield chunk
    finally:
        answer.close()


_add("/files", upload_file, "POST")
_add("/files", list_files, "GET")
_add("/files/<file_id>", show_file, "GET")
_add("/files/<file_id>", delete_file, "DELETE")
_add("/files/<file_id>/content", file_content, "GET")


# ---- batches -------------------------------------------------------------------------------------------------------


async def create_batch(provider: str | None = None) -> Response:
    """Run the calls of a file that was uploaded with purpose `batch`."""
    body = object_of(await read_body())
    return jsonify(await _batches().create(current_principal(), request.path, body))


async def list_batches(provider: str | None = None) -> Response:
    """The caller's batches at one provider."""
    asked = request.args.to_dict()
    return jsonify(await _batches().list_own(current_principal(), request.path, _wanted(provider), asked))


async def show_batch(batch_id: str, provider: str | None = None) -> Response:
    """How far a batch is, and where its results are."""
    return jsonify(await _batches().show(current_principal(), request.path, batch_id))


async def cancel_batch(batch_id: str, provider: str | None = None) -> Response:
    """Stop a batch."""
    return jsonify(await _batches().cancel(current_principal(), request.path, batch_id))


_add("/batches", create_batch, "POST")
_add("/batches", list_batches, "GET")
_add("/batches/<batch_id>", show_batch, "GET")
_add("/batches/<batch_id>/cancel", cancel_batch, "POST")
