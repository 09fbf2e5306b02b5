"""Free TCP ports on this machine."""

from __future__ import annotations

import random
import socket

# Below the range from which the system takes the ports of outgoing connections, so that none of those can take a port
# between our look and its use, and above the ports that services and the demo use by default.
_FIRST, _LAST = 15_000, 31_000


def free_port(count: int = 1) -> int:
    """The first of `count` ports in a row that nothing listens on, on any address of this machine."""
    for _ in range(200):
        first = random.randrange(_FIRST, _LAST - count)
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise RuntimeError(f"no {count} free ports in a row between {_FIRST} and {_LAST}")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True
