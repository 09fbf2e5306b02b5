"""Which addresses a team may make this instance call: public ones, whatever notation or name hides them. Pure.

A name is checked by what it resolves to, at the moment of the connection, and the connection is made to the address
that was checked (app/llm/upstream/http_client.py): a name that is asked twice may answer differently.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Global by their registry, and yet the clouds' own: addresses of metadata services, and what the library calls global.
_NEVER = tuple(map(ipaddress.ip_network, ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "100.64.0.0/10")))
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# Prefixes of IPv6 that lead to an IPv4 address: network -> how many bits stand behind that address.
_WITH_IPV4 = {
    ipaddress.IPv6Network("::ffff:0:0/96"): 0,  # mapped
    ipaddress.IPv6Network("::ffff:0:0:0/96"): 0,  # translated (SIIT)
    ipaddress.IPv6Network("64:ff9b::/96"): 0,  # NAT64
    ipaddress.IPv6Network("2002::/16"): 80,  # 6to4
}
_PRIVATE_SUFFIXES = ("local", "localhost", "internal", "lan", "home", "corp", "intranet", "private", "arpa")


def is_public_ip(text: str) -> bool:
    """Whether an address of IPv4 or IPv6, as a resolver gives it, is one of the public Internet."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return _is_public(address)


def _is_public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        for network, bits in _WITH_IPV4.items():
            if address in network:
                return _is_public(ipaddress.IPv4Address((int(address) >> bits) & 0xFFFFFFFF))
        if address not in _GLOBAL_UNICAST:
            return False
    elif any(address in network for network in _NEVER):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def may_be_public(url: str) -> bool:
    """Whether the host of an address is no private one by its form: a name may still resolve to one.

    The host is read as the client and the resolver read it: IDNA-normalized, numbers in any notation (`0x7f.1`).
    """
    try:
        host = urlsplit(url).hostname or ""
        host = (host if host.isascii() else host.encode("idna").decode()).rstrip(".").lower()
    except ValueError:
        return False
    try:
        return is_public_ip(socket.inet_ntoa(socket.inet_aton(host)))
    except OSError:
        pass
    if ":" in host:
        return is_public_ip(host)
    return "." in host and host.rpartition(".")[2] not in _PRIVATE_SUFFIXES
