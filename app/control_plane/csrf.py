"""Two locks on every change: the request comes from our own pages, and it carries the session's token."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from quart import g, request

from app.services import services

from .session import signing_key

FIELD, HEADER = "csrf_token", "X-CSRF-Token"
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


def csrf_token() -> str:
    """Bound to the session: hex HMAC-SHA256 of its seed, useless in any other session."""
    return hmac.new(signing_key("csrf"), g.session.csrf_seed.encode(), hashlib.sha256).hexdigest()


def is_own_origin() -> bool:
    """False for a request that a browser says comes from another site. Clients that send no such header pass:
    they hold no cookie that somebody else could borrow."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    own = {request.host, urlsplit(services().settings.proxy_base_url or "").netloc}
    return urlsplit(origin).netloc in own - {""}


async def is_forged(*, needs_token: bool) -> bool:
    """True for a change that must be refused with 403."""
    if request.method in _SAFE_METHODS:
        return False
    if not is_own_origin():
        return True
    if not needs_token:
        return False
    sent = request.headers.get(HEADER) or (await request.form).get(FIELD, "")
    return not hmac.compare_digest(sent.encode(), csrf_token().encode())
