"""Who is calling after authentication: an immutable snapshot, and the refusals that hang on it alone.

Which route demands what is the policy table's business (app/auth/policy.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

from quart import g

from ..errors import PlainDenial, Unauthenticated
from ..spend.scopes import BudgetScope, RateLimit
from .roles import READERS, Role
from .route_patterns import route_matches

_AWS_SIGNER = re.compile(r"Credential=([^/,\s]+)/")

# Headers that may carry a key, first present wins, as clients that send several expect.
_KEY_HEADERS = (
    "x-litellm-api-key",
    "authorization",
    "api-key",
    "x-api-key",
    "x-goog-api-key",
    "ocp-apim-subscription-key",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An authenticated caller: an immutable snapshot of key, user and team, shared by all of its calls."""

    role: Role
    key_hash: str
    key_alias: str | None = None
    key_name: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    team_alias: str | None = None
    organization_id: str | None = None
    models: tuple[str, ...] = ()
    team_models: tuple[str, ...] = ()
    member_models: tuple[str, ...] = ()
    user_models: tuple[str, ...] = ()
    organization_models: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    allowed_routes: tuple[str, ...] = ()
    # Lists of the key and of its team, which must both cover a pass-through path; an empty one covers everything.
    pass_through_routes: tuple[tuple[str, ...], ...] = ()
    denied_pass_through_routes: tuple[str, ...] = ()
    expires_at: datetime | None = None
    is_blocked: bool = False
    is_team_blocked: bool = False
    is_session: bool = False
    max_budget: Decimal | None = None
    scopes: tuple[BudgetScope, ...] = ()
    limits: tuple[RateLimit, ...] = ()
    tags: tuple[str, ...] = ()
    tag_limits: Mapping[str, int] = field(default_factory=dict)
    budget_fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    end_user_budget_id: str | None = None
    callbacks: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    is_redacted: bool = False
    allowed_cache_controls: tuple[str, ...] = ()
    organizations: tuple[str, ...] = ()

    @property
    def is_admin(self) -> bool:
        return self.role is Role.PROXY_ADMIN

    @property
    def can_read_all(self) -> bool:
        return self.role in READERS

    def refuse_expired(self) -> None:
        if self.expires_at is not None and self.expires_at <= datetime.now(UTC):
            raise Unauthenticated(
                "Authentication Error - Expired Key. "
                f"Key Expiry time {self.expires_at.isoformat()} and current time {datetime.now(UTC).isoformat()}",
                type="expired_key",
                param=self.key_name,
            )

    def refuse_unfit(self, path: str, group: str) -> None:
        """401 or 403 for a key that may not be used here, or no more; clients count on which comes first."""
        self.refuse_route(path, group)
        self.refuse_blocked()
        self.refuse_expired()
        self.refuse_blocked_team()

    def refuse_blocked(self) -> None:
        if self.is_blocked:
            raise Unauthenticated("Authentication Error, Key is blocked. Update via `/key/unblock` if you're an admin.")

    def refuse_blocked_team(self) -> None:
        if self.is_team_blocked:
            raise Unauthenticated(f"Team={self.team_id} is blocked. Update via `/team/unblock` if you're an admin.")

    def refuse_pass_through(self, path: str) -> None:
        """403 when the key or its team may not relay to this path."""
        self.refuse_denied_pass_through((path,))
        if any(entries and not _covered(entries, path) for entries in self.pass_through_routes):
            raise _pass_through_denial(path)

    def refuse_denied_pass_through(self, paths: Iterable[str]) -> None:
        """403 when the key may not relay to one of these spellings of a path (`denied_passthrough_routes`)."""
        entries = tuple(entry.lower().rstrip("/") for entry in self.denied_pass_through_routes)
        for path in paths if entries else ():
            if _covered(entries, path.lower().rstrip("/")):
                raise _pass_through_denial(path)

    def refuse_route(self, path: str, group: str) -> None:
        """403 when the key is limited to other routes (`allowed_routes`)."""
        if not self.allowed_routes or any(route_matches(entry, path, group) for entry in self.allowed_routes):
            return
        raise PlainDenial(
            "Virtual key is not allowed to call this route. Only allowed to call routes: "
            f"{list(self.allowed_routes)}. Tried to call route: {path}",
            status=403,
        )


def _pass_through_denial(path: str) -> PlainDenial:
    return PlainDenial(f"This key is not allowed to use the pass-through route {path}", status=403)


def _covered(entries: tuple[str, ...], path: str) -> bool:
    return any(route_matches(entry, path, "pass_through") for entry in entries)


def key_from(headers: Mapping[str, str], custom_header: str | None = None, query_key: str | None = None) -> str:
    """The secret that a request carries. Raises 401 when there is none, or when `Bearer ` is missing.

    `query_key`: what the query says, on routes where clients put it there.
    """
    if custom_header is not None:
        value = headers.get(custom_header)
        if value is not None:
            return _bearer(value)
    for name in _KEY_HEADERS:
        value = headers.get(name)
        if value is not None:
            return _bearer(value) if name == "authorization" else value.removeprefix("Bearer ").strip()
    if query_key:
        return query_key
    raise Unauthenticated("Authentication Error, No api key passed in.")


def _bearer(value: str) -> str:
    scheme, _, key = value.partition(" ")
    if scheme == "AWS4-HMAC-SHA256" and (signer := _AWS_SIGNER.search(key)):
        # Clients of AWS sign with the key in the place of an access key's id.
        return signer[1]
    if scheme.lower() not in ("bearer", "basic") or not key.strip():
        raise Unauthenticated("Authentication Error, Malformed API Key passed in. Ensure Key has `Bearer ` prefix.")
    return key.strip()


def current_principal() -> Principal:
    """The caller of the current request, inside a view whose route is not public."""
    return cast(Principal, g.principal)
