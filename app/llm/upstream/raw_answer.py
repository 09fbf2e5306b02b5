"""A provider's answer as it is: any status, its headers, its bytes as they come."""

from __future__ import annotations

from .errors import TRANSPORT_PROBLEMS, transport_error
from .http_response import HttpResponse


class RawAnswer:
    """An open answer. `close` it, whatever happens."""

    def __init__(self, answer: HttpResponse) -> None:
        self._answer = answer

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Every header, the repeated ones too."""
        return self._answer.headers

    def header(self, name: str) -> str:
        """One header by its name in lower case, "" when it is not there."""
        return self._answer.header(name) or ""

    @property
    def length(self) -> int | None:
        """The bytes that the body has, where the provider says so and sends them as they are."""
        given = self.header("content-length")
        is_as_sent = self.header("content-encoding").lower() in ("", "identity")
        return int(given[:18]) if given.isascii() and given.isdigit() and is_as_sent else None

    def has_ended(self) -> bool:
        """Whether everything was read."""
        return self._answer.has_ended

    async def read(self) -> bytes:
        """What has arrived, as soon as there is something; b"" at the end.

        Raises UpstreamError for a connection that breaks, or that stays silent for too long.
        """
        try:
            return await self._answer.read()
        except TRANSPORT_PROBLEMS as problem:
            raise transport_error(problem) from problem

    def close(self) -> None:
        """Cut the connection unless the answer was read to its end: a stream that nobody reads must stop costing."""
        self._answer.close()
