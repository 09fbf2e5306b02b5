"""Bodies of pictures, audio, moderation and reranking: what is read, what is passed on, what is asked for."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from app.errors import InvalidRequest
from app.protocols.multipart import Form, Part, form_type, parse_form
from app.protocols.openai.media import (
    IMAGE_EDITS,
    IMAGES,
    MODERATIONS,
    RERANK,
    SPEECH,
    TRANSCRIPTIONS,
    TRANSLATIONS,
    MediaEndpoint,
)
from app.protocols.openai.request import OpenAIRequest


def read(endpoint: MediaEndpoint, path_model: str | None = None, **body: Any) -> OpenAIRequest:
    return endpoint.read(json.dumps(body).encode(), path_model, "application/json")


def read_form(endpoint: MediaEndpoint, *parts: Part) -> OpenAIRequest:
    return endpoint.read(Form(parts).encoded("b"), None, form_type("b"))


FILE = Part("file", b"\x00" * 80_000, "a.mp3", "audio/mpeg")


def test_a_call_asks_for_units() -> None:
    pictures = read(IMAGES, model="m", prompt="x", n=3)
    assert pictures.asked is not None and (pictures.asked.images, pictures.choices) == (3, 3)
    speech = read(SPEECH, model="m", input="Grüße 👋")
    assert speech.asked is not None and (speech.asked.characters, speech.is_relayed) == (7, True)
    ranking = read(RERANK, model="m", query="q", documents=["d"] * 101)
    assert ranking.asked is not None and ranking.asked.queries == 2
    assert read(MODERATIONS, input="x").model == "omni-moderation-latest"


def test_a_file_counts_as_what_it_is_assumed_to_hold_not_as_text() -> None:
    heard = read_form(TRANSCRIPTIONS, Part("model", b"m"), FILE)
    assert heard.asked is not None and heard.asked.seconds == 10
    assert heard.estimated_prompt_tokens < 250
    edited = read_form(
        IMAGE_EDITS, Part("model", b"m"), Part("prompt", b"x"), Part("image[]", b"\x00" * 9_000, "a.png")
    )
    assert edited.asked is not None and edited.asked.images == 1
    assert 800 < edited.estimated_prompt_tokens < 1000


def test_what_is_for_the_gateway_stays_here_and_defaults_stand_beneath() -> None:
    request = read(IMAGES, model="m", prompt="x", size="1x1", tags=["t"], metadata={"user_id": "u"}, num_retries=1)
    assert (request.tags, request.end_user, request.options.num_retries) == (["t"], "u", 1)
    sent = json.loads(request.upstream_body("gpt-image-1", {"size": "2x2", "quality": "low"}))
    assert sent == {"model": "gpt-image-1", "prompt": "x", "size": "1x1", "quality": "low"}


def test_the_same_holds_for_forms() -> None:
    request = read_form(
        TRANSCRIPTIONS,
        Part("model", b"m"),
        Part("language", b"de"),
        Part("num_retries", b"2"),
        Part("fallbacks", b'["other"]'),
        Part("tags[]", b"t"),
        Part("metadata[user_id]", b"u"),
        Part("timestamp_granularities[]", b"word"),
        FILE,
    )
    assert (request.tags, request.end_user, request.options.num_retries) == (["t"], "u", 2)
    assert request.options.fallbacks is not None and request.options.fallbacks[0].model == "other"
    form = parse_form(request.upstream_body("whisper-1", {"language": "en", "temperature": 0}), request.content_type)
    assert [(part.name, part.value) for part in form.parts] == [
        ("model", b"whisper-1"),
        ("temperature", b"0"),
        ("language", b"de"),
        ("timestamp_granularities[]", b"word"),
        ("file", FILE.value),
    ]


def test_a_fallback_may_change_fields_but_not_where_a_call_goes() -> None:
    form = read_form(TRANSLATIONS, Part("model", b"m"), FILE).replaced({"prompt": "x", "api_base": "http://y"})
    sent = parse_form(form.upstream_body("w", {}), form.content_type)
    assert (sent.text("prompt"), sent.text("api_base"), form.model) == ("x", None, "m")
    pictures = read(IMAGES, model="m", prompt="x").replaced({"n": 2, "model": "other"})
    assert pictures.model == "m" and pictures.asked is not None and pictures.asked.images == 2
    with pytest.raises(InvalidRequest):
        read(IMAGES, model="m", prompt="x").replaced({"n": "many"})


def test_an_answer_names_the_model_that_was_asked_for_where_it_names_one() -> None:
    request = read(MODERATIONS, model="m", input=["x"])
    stamped, usage = MODERATIONS.answered(b'{"model":"omni","results":[]}', "application/json", request)
    assert (json.loads(stamped)["model"], usage) == ("m", None)
    pictures = read(IMAGES, model="m", prompt="x")
    body = b'{"created": 1,  "data":[{}]}'
    assert IMAGES.answered(body, "application/json", pictures)[0] == body


@pytest.mark.parametrize("kind", ["text", "srt", "vtt"])
def test_a_text_is_no_json(kind: str) -> None:
    request = read_form(TRANSCRIPTIONS, Part("model", b"m"), Part("response_format", kind.encode()), FILE)
    body, usage = TRANSCRIPTIONS.answered(b"00:00.000 --> 00:01.000\nHi", "text/plain", request)
    assert body.endswith(b"Hi") and request.keeps_content_type
    assert usage is not None and usage.seconds == (10 if kind == "text" else 1)


def test_a_file_that_is_pressed_hard_is_as_long_as_its_text() -> None:
    small = Part("file", b"OggS" + b"\x00" * 7_996, "a.ogg", "audio/ogg")
    request = read_form(TRANSCRIPTIONS, Part("model", b"m"), Part("response_format", b"text"), small)
    usages = [TRANSCRIPTIONS.answered(text, "text/plain", request)[1] for text in (b"Hi", b"word " * 300)]
    assert [usage and usage.seconds for usage in usages] == [1, Decimal("59.96")]


@pytest.mark.parametrize("count", ["\u00b2", "9" * 5000, "-1", "1.0", "0"])
def test_a_number_in_a_form_is_one(count: str) -> None:
    with pytest.raises(InvalidRequest):
        read_form(
            IMAGE_EDITS, Part("model", b"m"), Part("prompt", b"x"), Part("n", count.encode()), Part("image", b"x", "a")
        )


@pytest.mark.parametrize("stream", [b"true", b"1"])
def test_a_stream_of_events_is_relayed(stream: bytes) -> None:
    assert read_form(TRANSCRIPTIONS, Part("model", b"m"), Part("stream", stream), FILE).is_relayed
    assert not read_form(TRANSLATIONS, Part("model", b"m"), Part("stream", stream), FILE).is_relayed
    assert read(IMAGES, model="m", prompt="x", stream=True).is_relayed
    assert not read(IMAGES, model="m", prompt="x", stream=False).is_relayed
