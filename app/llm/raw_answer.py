"""A provider's answer as it is: any status, its headers, its bytes as they come."""

from __future__ import annotations

import aiohttp

from ..errors import UpstreamError

# What goes wrong between here and there.
TRANSPORT_PROBLEMS = (aiohttp.ClientError, OSError, TimeoutError)


class RawAnswer:
    """An open answer. `close` it, whatever happens."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Every header, the repeated ones too."""
        return list(self._response.headers.items())

    def header(self, name: str) -> str:
        """One header, "" when it is not there."""
        return self._response.headers.get(name, "")

    @property
    def length(self) -> int | None:
        """The bytes that the body has, where the provider says so and sends them as they are."""
        given = self.header("content-length")
        is_as_sent = self.header("content-encoding").lower() in ("", "identity")
        return int(given[:18]) if given.isascii() and given.isdigit() and is_as_sent else None

    def has_ended(self) -> bool:
        """Whether everything was read."""
        return self._response.content.at_eof()

    async def read(self) -> bytes:
        """What has arrived, as soon as there is something; b"" at the end.

        Raises UpstreamError for a connection that breaks, or that stays silent for too long.
        """
        try:
            return await self._response.content.readany()
        except TRANSPORT_PROBLEMS as problem:
            raise transport_fault(problem) from problem

    def close(self) -> None:
        """Cut the connection unless the answer was read to its end: a stream that nobody reads must stop costing."""
        if self.has_ended():
            self._response.release()
        else:
            self._response.close()


def transport_fault(problem: BaseException) -> UpstreamError:
    """No answer, half an answer, or silence, from whom a call was relayed to."""
    if isinstance(problem, TimeoutError):
        return UpstreamError(
            "litellm.Timeout: Timeout: the provider did not answer in time",
            status=408,
            type="invalid_request_error",
            error_class="Timeout",
        )
    return UpstreamError(
        "litellm.APIConnectionError: APIConnectionError: the connection to the provider failed",
        status=500,
        error_class="APIConnectionError",
    )
