"""Audio as text against a worker: the official SDK, texts and events, money."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.llm.live_worker import FAST, LiveWorker
from tests.llm.routes.media_models import WAV, form_of, media_models, post
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.upstream import Pieces, Reply, ScriptedUpstream


@pytest.fixture(scope="module")
def worker_process(factory: QuarterdeckFactory, upstream_port: int, refusing_port: int) -> QuarterdeckProcess:
    here, nowhere = f"http://127.0.0.1:{upstream_port}/v1", f"http://127.0.0.1:{refusing_port}/v1"
    return factory({"model_list": media_models(here, nowhere)}, env=FAST)


# ---- transcription -------------------------------------------------------------------------------------------------


async def test_audio_is_transcribed_and_billed_by_its_length(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Reply(body={"text": "Guten Tag", "usage": {"type": "duration", "seconds": 4}}))
    async with worker.sdk(key) as sdk:
        heard = await sdk.audio.transcriptions.create(model="ears", file=("a.wav", WAV, "audio/wav"), temperature=0.2)
    assert heard.text == "Guten Tag"
    form = form_of(upstream)
    assert (form.text("model"), form.text("temperature")) == ("whisper-1", "0.2")
    assert form.files("file")[0].value == WAV
    assert upstream.requests[0].path == "/v1/audio/transcriptions"
    assert Decimal(str((await worker.spend_row(key))["spend"])) == Decimal("0.0004")


async def test_a_transcription_that_counts_tokens_is_billed_by_them(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    usage = {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59}
    upstream.plan(Reply(body={"text": "x", "usage": usage}))
    await post(worker, key, "/audio/transcriptions", data={"model": "ears-by-token"}, files={"file": ("a.wav", WAV)})
    assert form_of(upstream).text("language") == "de"
    assert Decimal(str((await worker.spend_row(key))["spend"])) == Decimal("0.00014")


@pytest.mark.parametrize(
    ("kind", "text", "content_type", "cost"),
    [
        ("srt", "1\n00:00:00,000 --> 00:01:02,500\nHi\n", "application/x-subrip", "0.00625"),
        ("vtt", "WEBVTT\n\n00:00.000 --> 00:02.000\nHi\n", "text/vtt", "0.0002"),
        ("text", "Hi\n", "text/plain; charset=utf-8", "0.0002"),
    ],
)
async def test_texts_stay_texts(
    worker: LiveWorker,
    upstream: ScriptedUpstream,
    key: str,
    kind: str,
    text: str,
    content_type: str,
    cost: str,
) -> None:
    upstream.plan(Reply(raw=text.encode(), headers={"content-type": content_type}))
    answer = await post(
        worker,
        key,
        "/v1/audio/transcriptions",
        data={"model": "ears", "response_format": kind},
        files={"file": ("a.wav", WAV)},
    )
    assert (answer.text, answer.headers["content-type"]) == (text, content_type)
    assert round(Decimal(str((await worker.spend_row(key))["spend"])), 5) == Decimal(cost)


async def test_a_transcription_streams_its_events(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    delta = b'data: {"type":"transcript.text.delta","delta":"Hi"}\n\n'
    done = b'data: {"type":"transcript.text.done","text":"Hi","usage":{"input_tokens":10,"output_tokens":2}}\n\n'
    upstream.plan(Pieces([delta, done], "text/event-stream"))
    async with worker.sdk(key) as sdk:
        stream = await sdk.audio.transcriptions.create(model="ears-by-token", file=("a.wav", WAV), stream=True)
        assert [event.type async for event in stream] == ["transcript.text.delta", "transcript.text.done"]
    assert (await worker.spend_row(key))["total_tokens"] == 12


async def test_an_error_among_the_events_is_logged_as_one(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    heard = b'data: {"type":"transcript.text.delta","delta":"he"}\n\n'
    error = b'data: {"type":"error","error":{"message":"out of ears"}}\n\n'
    upstream.plan(Pieces([heard, error], "text/event-stream", interval=0.05))
    files = {"file": ("a.wav", WAV)}
    await post(worker, key, "/audio/transcriptions", data={"model": "ears", "stream": "true"}, files=files)
    row = await worker.spend_row(key)
    assert row["metadata"]["error_information"]["error_message"] == "out of ears"


async def test_audio_is_translated(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(Reply(body={"text": "Good day", "duration": "2.5"}))
    async with worker.sdk(key) as sdk:
        heard = await sdk.audio.translations.create(model="ears", file=("a.wav", WAV))
    assert heard.text == "Good day"
    row = await worker.spend_row(key)
    assert (row["call_type"], Decimal(str(row["spend"]))) == ("atranslation", Decimal("0.00025"))
