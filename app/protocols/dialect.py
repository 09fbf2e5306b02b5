"""The seam between the gateway and wire dialects: what each must know of the other. Pure: no I/O, no settings.

A call is read by its client's dialect: `Endpoint.read` makes a `ClientRequest`. For each attempt it becomes an
`Exchange` with a provider (`exchange_for` of dialects.py): what is sent, and how what comes back is told to the client.
Where both speak the same dialect the exchange is the request itself, and bytes pass through; else translation.py goes
through the values of canonical.py.

To add a dialect, write one file with a `Dialect` and register it in dialects.py; docs/architecture.md shows how.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import GatewayError
from .base import Usage
from .call_options import USUAL, CallOptions
from .canonical import ChatAnswer, ChatEvent, ChatRequest
from .json_fields import RawFields, error_message


class InvalidAnswer(Exception):
    """A provider's answer is not what its dialect says that it is."""


class ProviderFault(Exception):
    """The provider reported an error inside its stream."""


@dataclass(frozen=True, slots=True)
class Endpoint(ABC):
    """One operation of a dialect as clients call it. `dialect` is its name in dialects.py.

    `path` stands below the version prefix of a route and below a provider's address; `call_type` is the word for the
    operation in the spend log. `required` is the field that a body cannot do without, `answer_field` the one that an
    answer of a provider of the same dialect cannot, "" where there is none. `is_chat`: it is the operation
    that the dialect's `ChatCodec` has words for.
    """

    path: str
    call_type: str
    required: str
    may_stream: bool = True
    answer_field: str = field(default="", kw_only=True)
    dialect: str = field(default="openai", kw_only=True)
    is_chat: bool = field(default=False, kw_only=True)

    @abstractmethod
    def read(self, body: bytes, path_model: str | None, content_type: str) -> ClientRequest:
        """Split and check a client's body. Raises InvalidRequest (400) with what to change."""


@dataclass(slots=True, kw_only=True)
class ClientRequest(ABC):
    """A client's body, read: what admission, routing and money go by, whatever its dialect says it in.

    `model` is what the client asked for. `fields` is the top level of a JSON body, values unread. `asked`: units that
    the call asks for, where its operation is not counted in tokens alone. `choices`: how many answers of up to
    `max_tokens` each.
    """

    endpoint: Endpoint
    model: str
    body_bytes: int
    fields: RawFields = field(default_factory=dict)
    is_stream: bool = False
    wants_usage: bool = False
    max_tokens: int | None = None
    choices: int = 1
    end_user: str = ""
    tags: list[str] = field(default_factory=list)
    options: CallOptions = USUAL
    asked: Usage | None = None

    @abstractmethod
    def replaced(self, changes: Mapping[str, Any]) -> ClientRequest:
        """The request with other values of some fields, as a fallback may want them. The gateway's own stay.

        Raises InvalidRequest for values that no client may send either.
        """

    @property
    def estimated_prompt_tokens(self) -> int:
        """Before the provider has counted: four bytes a token."""
        return self.body_bytes // 4

    @property
    def estimated_text_tokens(self) -> int:
        """The same without pictures and sound, whose bytes say little about their tokens."""
        return self.estimated_prompt_tokens

    def estimated_usage(self, answer_bytes: int) -> Usage:
        """For an answer whose provider counted nothing, which must not make it free. A vector has no tokens."""
        completion = answer_bytes // 4 if self.endpoint.may_stream else 0
        return Usage(prompt_tokens=self.estimated_prompt_tokens, completion_tokens=completion, raw={"estimated": True})


class EventDecoder(Protocol):
    """Bytes in whatever pieces the network brings, whole events out. Raises one of `BROKEN_EVENTS` of sse.py."""

    def feed(self, chunk: bytes) -> list[bytes]: ...

    @property
    def has_partial_event(self) -> bool:
        """Whether the bytes end in the middle of an event."""


class StreamTranslation(Protocol):
    """A provider's stream on its way to the client, one event at a time, and what must be billed of it."""

    @property
    def usage(self) -> Usage | None:
        """As the provider counted, once it has."""

    @property
    def has_finished(self) -> bool:
        """Whether the client was sent the end."""

    @property
    def has_begun(self) -> bool:
        """Whether the client would see an answer begin: until then another deployment can still give it."""

    @property
    def has_finish_reason(self) -> bool:
        """Whether the answer said why it ended: it is whole then, also where the stream's own end never comes."""

    def frame(self, event: bytes) -> bytes | None:
        """The frames to send for one event, None for none.

        Raises ProviderFault for an error event, InvalidAnswer or one of BROKEN_JSON for one that makes no sense.
        """

    def finish(self) -> bytes:
        """The frames that end a whole answer whose provider sent no end."""

    def estimated_usage(self, body_bytes: int) -> Usage:
        """For a stream that ended before its usage came."""


class Exchange(Protocol):
    """One call as a provider gets it, and its answer as the client gets it. Made for each attempt."""

    @property
    def path(self) -> str:
        """Below the deployment's address."""

    @property
    def content_type(self) -> str:
        """Of the body that the provider gets."""

    @property
    def is_relayed(self) -> bool:
        """Whether the answer is passed on as bytes while it comes, whatever they are."""

    @property
    def answer_field(self) -> str:
        """Without which the provider's answer is none, "" where that is not known."""

    @property
    def keeps_content_type(self) -> bool:
        """Whether a whole answer keeps the provider's content type: it is no JSON."""

    def upstream_body(self, upstream_model: str, defaults: Mapping[str, Any]) -> bytes:
        """The body for a provider: its own model name, the deployment's defaults beneath what the client sent."""

    def answered(self, body: bytes, content_type: str) -> tuple[bytes, Usage | None]:
        """A provider's whole answer as the client gets it, and what it used.

        Raises InvalidAnswer or one of BROKEN_JSON.
        """

    def decoder(self) -> EventDecoder:
        """Splits the provider's stream into events."""

    def stream(self, *, wants_usage: bool, is_repaired: bool = True) -> StreamTranslation:
        """Translates them. `wants_usage`: the client is sent what was used. `is_repaired`: well-formed in any case."""


class AnswerAssembler(Protocol):
    """Puts the frames that a client gets together into the whole answer. What it cannot, has none."""

    @property
    def size(self) -> int:
        """About how many bytes the answer has by now."""

    @property
    def is_finished(self) -> bool: ...

    @property
    def is_given_up(self) -> bool: ...

    def feed(self, frames: bytes) -> None:
        """Some whole frames. Never raises."""

    def give_up(self) -> None:
        """Forget all: the answer is too large to be kept."""

    def answer(self, usage: Usage) -> bytes | None:
        """The whole answer as JSON; None for a stream that did not come to its natural end."""

    def so_far(self, usage: Usage) -> bytes | None:
        """What has come as JSON, whole or not; None when nothing has."""


class ChatReader(Protocol):
    """Events of a provider's stream as canonical ones."""

    def read(self, event: bytes) -> Sequence[ChatEvent]:
        """Raises ProviderFault for an error event, InvalidAnswer or one of BROKEN_JSON for one without sense."""

    @property
    def has_ended(self) -> bool:
        """Whether the stream's own end was read."""


class ChatWriter(Protocol):
    """Canonical events as frames for a client."""

    def write(self, event: ChatEvent) -> bytes:
        """The frames of one event, b"" for one that this client is not told."""

    def finish(self) -> bytes:
        """The frames after the last event."""


class ChatCodec(Protocol):
    """A dialect's words for a conversation, in both directions. What it cannot say it refuses by InvalidRequest (400).

    `path`: of the operation at a provider.
    """

    path: str

    def read_request(self, request: ClientRequest) -> ChatRequest: ...

    def write_request(self, chat: ChatRequest, upstream_model: str, defaults: Mapping[str, Any]) -> bytes: ...

    def read_answer(self, body: bytes) -> ChatAnswer:
        """Raises InvalidAnswer or one of BROKEN_JSON."""

    def write_answer(self, answer: ChatAnswer, model: str) -> bytes: ...

    def decoder(self) -> EventDecoder: ...

    def reader(self) -> ChatReader: ...

    def writer(self, model: str, *, wants_usage: bool) -> ChatWriter: ...


class Dialect(ABC):
    """A wire format: how clients are answered in it, and how a provider that speaks it is asked.

    `ping_frame`: a comment that keeps a silent stream open. `chat`: its words for a conversation; None where there is
    nothing to translate. `route_prefixes`: paths below which errors are told in this dialect before a call was read.
    """

    name: str
    ping_frame: bytes
    route_prefixes: tuple[str, ...] = ()
    chat: ChatCodec | None = None

    @abstractmethod
    def exchange(self, request: ClientRequest) -> Exchange | None:
        """What a provider of this dialect is sent for a request that is written in it; None for one of another."""

    def split_address(self, base: str) -> tuple[str, Mapping[str, str]]:
        """An address as people copy it: what is an address of it, and the deployment's parameters that it holds."""
        return base, {}

    def address(self, base: str, upstream_model: str, params: Mapping[str, Any]) -> tuple[str, str]:
        """Where a deployment's operations stand: what comes before an operation's path, and the query behind it."""
        return base, ""

    def account_address(self, api_base: str) -> str:
        """The address below which a deployment's account keeps files and batches."""
        return api_base

    def address_of(self, api_base: str, pattern: str, upstream_model: str) -> str:
        """The same for one model of a deployment that serves a `pattern` of names."""
        return api_base

    @property
    def parameters(self) -> Mapping[str, str]:
        """Parameters of a deployment beside key and address that this dialect reads, each with its meaning."""
        return {}

    @abstractmethod
    def error_body(self, error: GatewayError) -> dict[str, Any]:
        """An error as the body of an answer."""

    @abstractmethod
    def error_frame(self, message: str, status: str) -> bytes:
        """An error inside a stream that has already begun, and the end of the stream."""

    def error_message(self, body: bytes) -> str | None:
        """A provider's own words in the body of an error; None where there are none."""
        return error_message(body)

    def assembler(self, endpoint: Endpoint) -> AnswerAssembler | None:
        """Puts a stream of one of its operations together; None where nobody knows how."""
        return None

    def is_complete(self, body: bytes) -> bool:
        """Whether a whole answer came to its natural end."""
        return False

    def replay(self, endpoint: Endpoint, body: bytes, *, wants_usage: bool) -> Iterator[bytes]:
        """A complete answer as the frames of a stream."""
        return iter((body,))
