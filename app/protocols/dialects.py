"""The dialects that the gateway speaks, by name, and how a call gets from one to another.

A row of providers.py names its provider's dialect; an `Endpoint` that of its clients.
"""

from __future__ import annotations

from ..errors import InvalidRequest
from .dialect import ClientRequest, Dialect, Exchange
from .openai_dialect import AzureDialect, OpenAIDialect

OPENAI = OpenAIDialect()
DIALECTS: dict[str, Dialect] = {}


def register(dialect: Dialect) -> None:
    """Make a dialect known by its name, from now on."""
    DIALECTS[dialect.name] = dialect


for _dialect in (OPENAI, AzureDialect()):
    register(_dialect)


def client_dialect(request: ClientRequest) -> Dialect:
    """The dialect that the client of a call speaks."""
    return DIALECTS[request.endpoint.dialect]


def dialect_of_path(path: str) -> Dialect:
    """The dialect in which errors of a route are told, before its call was read."""
    spoken = (dialect for dialect in DIALECTS.values() if dialect.route_prefixes)
    return next((dialect for dialect in spoken if path.startswith(dialect.route_prefixes)), OPENAI)


def exchange_for(request: ClientRequest, dialect: Dialect) -> Exchange:
    """What a provider of this dialect is sent for a client's request: the request as it is, or translated.

    Raises InvalidRequest (400) for an operation that the dialect has no words for.
    """
    exchange = dialect.exchange(request)
    if exchange is None:
        raise InvalidRequest(
            f"{request.endpoint.path} cannot be served by model={request.model}: its provider speaks the "
            f"{dialect.name} dialect, which has no such operation",
            param="model",
        )
    return exchange
