"""A provider's response as it is: any status, its headers, its bytes as they arrive."""

from __future__ import annotations

from .errors import TRANSPORT_PROBLEMS, transport_error
from .http_response import HttpResponse


class RawAnswer:
    """An open response. `close` it, whatever happens."""

    def __init__(self, answer: HttpResponse) -> None:
        self._answer = answer

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Every header, repeated ones included."""
        return self._answer.headers

    def header(self, name: str) -> str:
        """One header by its name in lower case, "" when it is not there."""
        return self._answer.header(name) or ""

    @property
    def length(self) -> int | None:
        """The size of the body in bytes, where the provider announces it and sends the body uncompressed."""
        given = self.header("content-length")
        is_uncompressed = self.header("content-encoding").lower() in ("", "identity")
        return int(given[:18]) if given.isascii() and given.isdigit() and is_uncompressed else None

    def has_ended(self) -> bool:
        """Whether everything was read."""
        return self._answer.has_ended

    async def read(self) -> bytes:
        """What has arrived, as soon as there is something; b"" at the end.

        Raises UpstreamError for a connection that breaks, or stays silent for too long.
        """
        try:
            return await self._answer.read()
        except TRANSPORT_PROBLEMS as problem:
            raise transport_error(problem) from problem

    def close(self) -> None:
        """Abort the connection unless the response was read to its end: an unread stream must stop costing."""
        self._answer.close()
