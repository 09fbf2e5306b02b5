"""Which headers of outgoing requests may come from outside: the configuration, the API, a caller. One rule for all.

What frames a message and what belongs to one connection is set by the HTTP client alone: a `Transfer-Encoding` beside
its `Content-Length` lets one tenant's bytes become another tenant's request. The rule holds when a header is written
and again when it is sent, because stored rows can be older than the rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

# RFC 9110, 5.6.2 and 5.5: no separators and no white space in a name, no control characters in a value.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# Framing, hop-by-hop headers, and `Host`, which names the server that a connection was opened to.
_RESERVED = frozenset(
    "connection content-length expect host http2-settings keep-alive proxy-authenticate proxy-authentication-info "
    "proxy-authorization proxy-connection te trailer transfer-encoding upgrade".split()
)


def comparable(name: str) -> str:
    """A header's name as servers compare it: in lower case, and many read `_` as `-`."""
    return name.lower().replace("_", "-")


@lru_cache(maxsize=4096)
def may_be_set(name: str) -> bool:
    """Whether a header of this name may come from outside."""
    return _TOKEN.fullmatch(name) is not None and comparable(name) not in _RESERVED


def check_written(headers: Mapping[str, str], reserved: Iterable[str] = ()) -> None:
    """Raises ValueError, never with a value, for headers that must not be configured.

    `reserved`: further names that the gateway sets itself, as the one that carries a key.
    """
    own = {comparable(name) for name in reserved}
    seen: set[str] = set()
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            # The name is not repeated: `Name: secret` may have been written into it.
            raise ValueError("has a header whose name is not of letters, digits and hyphens")
        if not may_be_set(name) or comparable(name) in own:
            raise ValueError(f"must not set the header {name}: the gateway sets it itself")
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"sets the header {name} to a value that would not be one line of ASCII; correct it")
        if comparable(name) in seen:
            raise ValueError(f"sets the header {name} twice")
        seen.add(comparable(name))


def check_sent(headers: Mapping[str, str]) -> None:
    """Raises ValueError, without name and value, for headers that would be sent and may not."""
    for name, value in headers.items():
        if not may_be_set(name) or not _FIELD_VALUE.fullmatch(value):
            raise ValueError("the request has a header that must not be sent")
    if len({name.lower() for name in headers}) != len(headers):
        raise ValueError("the request has a header twice")
