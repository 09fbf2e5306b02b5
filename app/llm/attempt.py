"""One attempt: a call's exchange with one deployment, whole or as a stream, and what it leaves in the record."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ..deployments.deployment import Deployment
from ..protocols.dialect import ClientRequest, Exchange, InvalidAnswer
from ..protocols.dialects import OPENAI, client_dialect, exchange_for
from ..protocols.error_answers import is_json
from ..protocols.json_fields import BROKEN_JSON
from ..protocols.mock import MOCK_ERRORS, mock_answer, mock_events, mock_type
from ..settings import Settings
from .byte_stream import relayed, safe_type
from .call import Call, Reply
from .call_record import CallRecord
from .streaming import billed, mocked_frames, translated_frames, until_begun
from .upstream.client import Answer, Upstream
from .upstream.errors import invalid_answer_error, refuse_error_answer, status_error


class AttemptRunner:
    def __init__(self, settings: Settings, upstream: Upstream) -> None:
        self._settings = settings
        self._upstream = upstream

    def reconfigure(self, settings: Settings) -> None:
        """Take settings that changed while running."""
        self._settings = settings

    async def run(self, call: Call, request: ClientRequest, deployment: Deployment, record: CallRecord) -> Reply:
        """Ask one deployment. Raises UpstreamError while nothing was sent to the client, so that another may answer."""
        if deployment.mock_response is not None:
            return await self._mocked(request, deployment, record)
        exchange = exchange_for(request, deployment.dialect)
        answer = await self._post(call, request, exchange, deployment)
        if exchange.is_relayed:
            return await relayed(answer, request.estimated_usage(0), record, client_dialect(request))
        if request.is_stream:
            return await self._stream(answer, exchange, request, deployment, record)
        async with answer:
            body = await answer.read()
            return _settled(body, answer.content_type, answer.headers, exchange, request, deployment, record)

    async def _post(self, call: Call, request: ClientRequest, exchange: Exchange, deployment: Deployment) -> Answer:
        options = request.options
        return await self._upstream.post(
            deployment,
            exchange.path,
            exchange.upstream_body(deployment.upstream_model, deployment.defaults),
            is_stream=request.is_stream or exchange.is_relayed,
            content_type=exchange.content_type,
            seconds=options.timeout or call.timeout,
            silence=options.stream_timeout or call.stream_timeout,
        )

    async def _stream(
        self,
        answer: Answer,
        exchange: Exchange,
        request: ClientRequest,
        deployment: Deployment,
        record: CallRecord,
    ) -> Reply:
        """Look at how a stream begins: until it has said something, another deployment may take over."""
        stream = exchange.stream(wants_usage=self._wants_usage(request), is_repaired=self._settings.repairs_streams)
        dialect = client_dialect(request)
        ping_seconds = deployment.keepalive_seconds or self._settings.stream_keepalive
        frames = translated_frames(answer, exchange.decoder(), stream, deployment, dialect.ping_frame, ping_seconds)
        try:
            first, others = await until_begun(frames, stream, dialect.ping_frame)
        except BaseException as problem:  # whatever ends the wait, the provider must be told to stop
            answer.close()
            if isinstance(problem, StopAsyncIteration):
                raise invalid_answer_error(deployment) from None
            raise
        record.timing.first_chunk()
        record.upstream_headers = answer.headers
        headers = {**record.upstream_headers, **record.headers()}
        return Reply(headers, frames=await billed(first, others, answer, stream, record, dialect))

    def _wants_usage(self, request: ClientRequest) -> bool:
        return request.wants_usage or self._settings.always_include_stream_usage

    async def _mocked(self, request: ClientRequest, deployment: Deployment, record: CallRecord) -> Reply:
        """The answer of a deployment with `mock_response`, which is OpenAI's whoever its provider is."""
        text, exchange = deployment.mock_response or "", exchange_for(request, OPENAI)
        if text in MOCK_ERRORS:
            status, code = MOCK_ERRORS[text]
            body = msgspec.json.encode({"error": {"message": f"mock_response: {text}", "code": code}})
            raise status_error(status, body, {}, deployment)
        if not request.is_stream:
            body, content_type = mock_answer(exchange.path, text), mock_type(exchange.path)
            return _settled(body, content_type, {}, exchange, request, deployment, record)
        stream = exchange.stream(wants_usage=self._wants_usage(request))
        frames = mocked_frames(mock_events(exchange.path, text), stream)
        headers = record.headers()
        return Reply(headers, frames=await billed(b"", frames, None, stream, record, client_dialect(request)))


def _settled(
    body: bytes,
    content_type: str,
    upstream_headers: Mapping[str, str],
    exchange: Exchange,
    request: ClientRequest,
    deployment: Deployment,
    record: CallRecord,
) -> Reply:
    """The reply to a whole answer. Raises UpstreamError for one that is an error, and for one that makes no sense."""
    if not exchange.keeps_content_type or is_json(content_type):
        refuse_error_answer(body, exchange.answer_field, upstream_headers, deployment)
    try:
        answered, usage = exchange.answered(body, content_type)
    except (InvalidAnswer, *BROKEN_JSON):
        raise invalid_answer_error(deployment) from None
    record.upstream_headers = upstream_headers
    record.succeed(usage or request.estimated_usage(len(body)), None if exchange.keeps_content_type else answered)
    kind = safe_type(content_type) if exchange.keeps_content_type else None
    return Reply({**upstream_headers, **record.headers()}, answered, content_type=kind)
