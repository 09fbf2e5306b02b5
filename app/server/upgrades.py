"""hypercorn without the way from HTTP/1.1 to HTTP/2 on a connection: a tunnel past the path rules of a proxy.

A proxy that hands on `Upgrade: h2c` looks at the first request only; what follows in HTTP/2 frames it takes for the
data of one connection. HTTP/2 by TLS, and from a client that begins with it, stays.
"""

from __future__ import annotations

import h11
import hypercorn.protocol
from hypercorn.protocol.h11 import H11Protocol


class H11ProtocolWithoutH2C(H11Protocol):
    async def _check_protocol(self, event: h11.Request) -> None:
        """Asks for HTTP/2 where a connection begins with it. RFC 9110 7.8: a server may ignore an upgrade."""
        if not any(name.strip().lower() == b"upgrade" for name, _ in event.headers):
            await super()._check_protocol(event)


def ignore_h2c_upgrades() -> None:
    """For every connection of this process from now on; hypercorn has no setting for it."""
    hypercorn.protocol.H11Protocol = H11ProtocolWithoutH2C  # type: ignore[attr-defined]
