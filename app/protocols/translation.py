"""A call between two dialects: the client's words become canonical values, and those the provider's words; and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import Usage
from .canonical import Counted, Started, Stopped
from .dialect import ChatCodec, ChatReader, ChatWriter, ClientRequest, EventDecoder


class TranslatedStream:
    """A provider's stream as a client of another dialect gets it, and what must be billed of it."""

    __slots__ = ("_begun", "_pieces", "_reader", "_stopped", "_writer", "has_finished", "usage")

    def __init__(self, reader: ChatReader, writer: ChatWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.usage: Usage | None = None
        self.has_finished = False
        # Choices that have begun, those of them that said why they ended, and how many pieces came.
        self._begun: set[int] = set()
        self._stopped: set[int] = set()
        self._pieces = 0

    @property
    def has_begun(self) -> bool:
        return bool(self._begun) or self.has_finished

    @property
    def has_finish_reason(self) -> bool:
        return bool(self._begun) and self._begun == self._stopped

    def frame(self, event: bytes) -> bytes | None:
        if self.has_finished:
            return None
        frames = b""
        for one in self._reader.read(event):
            if isinstance(one, Counted):
                self.usage = one.usage
            elif not isinstance(one, Started):
                self._begun.add(one.choice)
                if isinstance(one, Stopped):
                    self._stopped.add(one.choice)
                else:
                    self._pieces += 1
            frames += self._writer.write(one)
        if self._reader.has_ended:
            frames += self.finish()
        return frames or None

    def finish(self) -> bytes:
        self.has_finished = True
        return self._writer.finish()

    def estimated_usage(self, body_bytes: int) -> Usage:
        """About a token a piece, four bytes a prompt token."""
        return Usage(prompt_tokens=body_bytes // 4, completion_tokens=self._pieces, raw={"estimated": True})


class TranslatedExchange:
    """A client's request for a provider of another dialect.

    Raises InvalidRequest (400), here and from `upstream_body`, that names what the provider's dialect cannot say.
    """

    __slots__ = ("_chat", "_client", "_provider", "_request")

    content_type = "application/json"
    is_relayed = False
    keeps_content_type = False
    answer_field = ""

    def __init__(self, request: ClientRequest, client: ChatCodec, provider: ChatCodec) -> None:
        self._request = request
        self._client = client
        self._provider = provider
        self._chat = client.read_request(request)

    @property
    def path(self) -> str:
        return self._provider.path

    def upstream_body(self, upstream_model: str, defaults: Mapping[str, Any]) -> bytes:
        return self._provider.write_request(self._chat, upstream_model, defaults)

    def answered(self, body: bytes, content_type: str) -> tuple[bytes, Usage | None]:
        answer = self._provider.read_answer(body)
        return self._client.write_answer(answer, self._request.model), answer.usage

    def decoder(self) -> EventDecoder:
        return self._provider.decoder()

    def stream(self, *, wants_usage: bool, is_repaired: bool = True) -> TranslatedStream:
        return TranslatedStream(
            self._provider.reader(), self._client.writer(self._request.model, wants_usage=wants_usage)
        )
