"""Models beyond text, and calls to them, for the tests of media."""

from __future__ import annotations

from typing import Any

import httpx

from app.protocols.multipart import Form, parse_form
from tests.llm.live_worker import LiveWorker, deployment
from tests.upstream import ScriptedUpstream

WAV_HEAD = (
    b"RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00"
)
WAV = WAV_HEAD + b"\x00" * 31_996


def media_models(here: str, nowhere: str) -> list[dict[str, Any]]:
    """One model of each kind at `here`; `nowhere` refuses connections."""
    return [
        deployment("pictures", here, "openai/dall-e-3", output_cost_per_image=0.04, input_cost_per_image=0.01),
        deployment(
            "gpt-image", here, "openai/gpt-image-1", input_cost_per_token=0.00001, output_cost_per_token=0.00004
        ),
        deployment("voice", here, "openai/tts-1", input_cost_per_character=0.000015),
        deployment("ears", here, "openai/whisper-1", input_cost_per_second=0.0001, output_cost_per_second=0.0001),
        deployment("ears-by-token", here, "openai/gpt-4o-transcribe", input_cost_per_token=0.00001, language="de"),
        deployment("ranker", here, "openai_like/rerank-v3.5", input_cost_per_query=0.002),
        deployment("censor", here, "openai/omni-moderation-latest", input_cost_per_token=0, output_cost_per_token=0),
        deployment("unpriced", here, "openai/tts-unheard-of"),
        deployment("voice-in-trouble", nowhere, id="voice-refused", input_cost_per_character=0.000015),
        deployment("voice-in-trouble", here, "openai/tts-1", id="voice-fine", input_cost_per_character=0.000015),
        deployment("mocked", here, mock_response="Hello from the mock"),
    ]


def form_of(upstream: ScriptedUpstream, number: int = -1) -> Form:
    request = upstream.requests[number]
    return parse_form(request.body, request.headers["content-type"])


async def post(worker: LiveWorker, key: str, path: str, **sent: Any) -> httpx.Response:
    return await worker.http.post(f"{worker.url}{path}", headers={"Authorization": f"Bearer {key}"}, **sent)
