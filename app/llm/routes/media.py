"""Routes of pictures, audio, moderation and reranking: the same path as text, with other bodies and answers."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Response

from ...protocols.dialect import Endpoint
from ...protocols.openai_media import IMAGE_EDITS, IMAGES, MODERATIONS, RERANK, SPEECH, TRANSCRIPTIONS, TRANSLATIONS
from .openai import answer_call, refuse_unfit_keys

media_blueprint = Blueprint("media", __name__)
media_blueprint.before_request(refuse_unfit_keys)

_PLAIN = ("/v1", "")
# Azure's clients put the model into the path.
_WITH_MODEL = (*_PLAIN, "/openai/deployments/<path:path_model>")


def _add(endpoint: Endpoint, view: Any, prefixes: tuple[str, ...]) -> None:
    for prefix in prefixes:
        media_blueprint.add_url_rule(f"{prefix}{endpoint.path}", view_func=view, methods=["POST"])


async def generate_images(path_model: str | None = None) -> Response:
    """Pictures for a prompt; `stream` passes the provider's events on."""
    return await answer_call(IMAGES, path_model)


async def edit_images(path_model: str | None = None) -> Response:
    """Pictures made of others; a form with files."""
    return await answer_call(IMAGE_EDITS, path_model)


async def speak(path_model: str | None = None) -> Response:
    """Text as audio, passed on while it is spoken."""
    return await answer_call(SPEECH, path_model)


async def transcribe(path_model: str | None = None) -> Response:
    """Audio as text, subtitles or JSON; a form with a file."""
    return await answer_call(TRANSCRIPTIONS, path_model)


async def translate(path_model: str | None = None) -> Response:
    """Audio as English text; a form with a file."""
    return await answer_call(TRANSLATIONS, path_model)


async def moderate() -> Response:
    """Whether a text or a picture breaks the provider's rules."""
    return await answer_call(MODERATIONS, None)


async def rerank() -> Response:
    """Documents by how well they answer a query, in Cohere's shape."""
    return await answer_call(RERANK, None)


_add(IMAGES, generate_images, _WITH_MODEL)
_add(IMAGE_EDITS, edit_images, _WITH_MODEL)
_add(SPEECH, speak, _WITH_MODEL)
_add(TRANSCRIPTIONS, transcribe, _WITH_MODEL)
_add(TRANSLATIONS, translate, _WITH_MODEL)
_add(MODERATIONS, moderate, _PLAIN)
_add(RERANK, rerank, (*_PLAIN, "/v2"))
