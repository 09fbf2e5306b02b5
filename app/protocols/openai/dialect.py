"""OpenAI's dialect as the gateway sees it, and Azure's variant, which differs in its addresses alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from ...errors import GatewayError
from ..dialect import AnswerAssembler, ClientRequest, Dialect, Endpoint, Exchange
from .answers import PING_FRAME, error_frame
from .assembly import StreamAssembler, is_complete, replay
from .chat import OpenAIChat
from .request import CHAT, COMPLETIONS, OpenAIRequest

_AZURE_VERSION = "2024-10-21"
# Versions of Azure's API whose addresses are those of OpenAI.
_AZURE_PLAIN = ("v1", "latest", "preview")
# Where Azure's API begins; a gateway before it may have a path of its own.
_AZURE_PATH = re.compile(r"(?P<root>https?://[^/]+(?:/.*?)?)/openai(?P<rest>/.*)?$")
_OPERATION = "/chat/completions"
_VERSION_QUERY = re.compile(r"api-version=([\w.-]+)")


def _without_operation(base: str) -> str:
    return base.removesuffix(_OPERATION)


class OpenAIDialect(Dialect):
    name = "openai"
    ping_frame = PING_FRAME
    chat = OpenAIChat()

    def exchange(self, request: ClientRequest) -> Exchange | None:
        return request if isinstance(request, OpenAIRequest) else None

    def error_body(self, error: GatewayError) -> dict[str, Any]:
        return error.body()

    def error_frame(self, message: str, status: str) -> bytes:
        return error_frame(message, status)

    def assembler(self, endpoint: Endpoint) -> AnswerAssembler | None:
        return StreamAssembler(endpoint) if endpoint in (CHAT, COMPLETIONS) else None

    def is_complete(self, body: bytes) -> bool:
        return is_complete(body)

    def replay(self, endpoint: Endpoint, body: bytes, *, wants_usage: bool) -> Iterator[bytes]:
        return replay(endpoint, body, wants_usage=wants_usage)


class AzureDialect(OpenAIDialect):
    """Azure puts the deployment into the path and the version into the query."""

    name = "azure"

    def split_address(self, base: str) -> tuple[str, Mapping[str, str]]:
        address, _, query = base.partition("?")
        match = _VERSION_QUERY.fullmatch(query)
        return (address, {"api_version": match[1]}) if match is not None else (base, {})

    def address(self, base: str, upstream_model: str, params: Mapping[str, Any]) -> tuple[str, str]:
        """People copy any of the addresses that Azure shows: all of them lead to the same one.

        A deployment or an API version in the address is what it says there.
        """
        version = params.get("api_version") or _AZURE_VERSION
        match = _AZURE_PATH.match(base)
        root, rest = (match["root"], match["rest"] or "") if match is not None else (_without_operation(base), "")
        if version in _AZURE_PLAIN or rest == "/v1" or rest.startswith("/v1/"):
            return f"{root}/openai/v1", f"?api-version={version}" if version in _AZURE_PLAIN[1:] else ""
        _, _, below = rest.partition("/deployments/")
        deployment = below.partition("/")[0] or upstream_model
        return f"{root}/openai/deployments/{deployment}", f"?api-version={version}"

    def account_address(self, api_base: str) -> str:
        # Files are kept beside deployments, not below them.
        root, slash, _ = api_base.partition("/openai/deployments/")
        return f"{root}/openai" if slash else api_base

    def address_of(self, api_base: str, pattern: str, upstream_model: str) -> str:
        # What a client writes must stay one segment of the path.
        return api_base.replace(pattern, quote(upstream_model, safe=""), 1)

    @property
    def parameters(self) -> Mapping[str, str]:
        return {"api_version": "Version of Azure's API."}
