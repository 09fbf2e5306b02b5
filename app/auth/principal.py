"""Who is calling after authentication, and what each route demands of them.

Every view is marked: `@public` or `@requires(Role.…)`; an app with a view that is not does not start. The order of
refusals is the contract's (management.md §4): unknown, route, blocked, … expired.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from functools import wraps
from typing import Any, TypeVar, cast

from quart import g, request

from ..errors import Forbidden, PlainDenial, Unauthenticated
from ..services import services

View = TypeVar("View", bound=Callable[..., Awaitable[Any]])


class Role(StrEnum):
    """Roles of the contract. `KEY_ONLY`: a key without a user."""

    PROXY_ADMIN = "proxy_admin"
    PROXY_ADMIN_VIEWER = "proxy_admin_viewer"
    ORG_ADMIN = "org_admin"
    INTERNAL_USER = "internal_user"
    INTERNAL_USER_VIEWER = "internal_user_viewer"
    KEY_ONLY = "key_only"


ADMINS = (Role.PROXY_ADMIN,)
READERS = (Role.PROXY_ADMIN, Role.PROXY_ADMIN_VIEWER)
MEMBERS = (Role.PROXY_ADMIN, Role.INTERNAL_USER)
ANYONE = tuple(Role)

# Headers that may carry a key, first present wins (contract auth.md §7).
_KEY_HEADERS = (
    "x-litellm-api-key",
    "authorization",
    "api-key",
    "x-api-key",
    "x-goog-api-key",
    "ocp-apim-subscription-key",
)


@dataclass(frozen=True, slots=True)
class BudgetScope:
    """One ceiling that applies to a caller: whose it is, how errors name it, and how high it is (USD)."""

    kind: str
    id: str
    label: str
    max_budget: Decimal | None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Limits per minute of a caller. `descriptor` is the contract's word for whose they are, None is no limit."""

    descriptor: str
    id: str
    label: str
    rpm: int | None
    tpm: int | None
    parallel: int | None


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
    models: tuple[str, ...] = ()
    team_models: tuple[str, ...] = ()
    user_models: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    allowed_routes: tuple[str, ...] = ()
    expires_at: datetime | None = None
    is_blocked: bool = False
    is_team_blocked: bool = False
    is_session: bool = False
    max_budget: Decimal | None = None
    scopes: tuple[BudgetScope, ...] = ()
    limits: tuple[RateLimit, ...] = ()

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

    def refuse_blocked(self) -> None:
        if self.is_blocked:
            raise Unauthenticated("Authentication Error, Key is blocked. Update via `/key/unblock` if you're an admin.")

    def refuse_blocked_team(self) -> None:
        if self.is_team_blocked:
            raise Unauthenticated(f"Team={self.team_id} is blocked. Update via `/team/unblock` if you're an admin.")

    def refuse_route(self, path: str, group: str) -> None:
        """403 when the key is limited to other routes (`allowed_routes`)."""
        if not self.allowed_routes or any(_route_matches(entry, path, group) for entry in self.allowed_routes):
            return
        raise PlainDenial(
            "Virtual key is not allowed to call this route. Only allowed to call routes: "
            f"{list(self.allowed_routes)}. Tried to call route: {path}",
            status=403,
        )


_ROUTE_GROUPS = {
    "llm_api_routes": ("llm", "models"),
    "openai_routes": ("llm", "models"),
    "management_routes": ("admin",),
    "key_management_routes": ("admin",),
}
_INFO_ROUTES = frozenset(
    "/key/info /team/info /team/list /v2/team/list /user/info /v2/user/info /model/info /v1/model/info "
    "/v2/model/info /key/list /health /models /v1/models /sso/get/ui_settings".split()
)


def _route_matches(entry: str, path: str, group: str) -> bool:
    if entry == "info_routes":
        return path in _INFO_ROUTES
    if entry in _ROUTE_GROUPS:
        return group in _ROUTE_GROUPS[entry]
    return path.startswith(entry[:-1]) if entry.endswith("*") else path == entry


def key_from(headers: Mapping[str, str], custom_header: str | None = None) -> str:
    """The secret that a request carries. Raises 401 when there is none, or when `Bearer ` is missing."""
    if custom_header is not None:
        value = headers.get(custom_header)
        if value is not None:
            return _bearer(value)
    for name in _KEY_HEADERS:
        value = headers.get(name)
        if value is not None:
            return _bearer(value) if name == "authorization" else value.removeprefix("Bearer ").strip()
    raise Unauthenticated("Authentication Error, No api key passed in.")


def _bearer(value: str) -> str:
    scheme, _, key = value.partition(" ")
    if scheme.lower() not in ("bearer", "basic") or not key.strip():
        raise Unauthenticated("Authentication Error, Malformed API Key passed in. Ensure Key has `Bearer ` prefix.")
    return key.strip()


async def authenticate(headers: Mapping[str, str]) -> Principal:
    """The caller behind the request's key: from memory, else from the database. Checks that it is known, not more."""
    house = services()
    key = key_from(headers, house.settings.key_header_name)
    return await house.keys.principal_of(key)


def public(view: View) -> View:
    """Mark a view that anyone may call."""
    view.access = "public"  # type: ignore[attr-defined]
    return view


def requires(*roles: Role, is_admitted_later: bool = False) -> Callable[[View], View]:
    """Mark a view that these roles may call; everyone else gets the contract's refusal.

    `is_admitted_later`: the gateway's admission checks the key itself, with the model in between.
    """

    def mark(view: View) -> View:
        @wraps(view)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            principal = await authenticate(cast(Mapping[str, str], request.headers))
            if not is_admitted_later:
                principal.refuse_route(request.path, _group_of_request())
                principal.refuse_blocked()
                principal.refuse_expired()
                principal.refuse_blocked_team()
            if principal.role not in roles:
                raise _refusal(principal)
            g.principal = principal
            return await view(*args, **kwargs)

        guarded.access = tuple(roles)  # type: ignore[attr-defined]
        return cast(View, guarded)

    return mark


def _group_of_request() -> str:
    return services().route_groups.get(request.blueprint or "", "admin")


def _refusal(principal: Principal) -> Exception:
    """401 for most (SDKs depend on it), 403 for a viewer who tries to write."""
    if principal.role in (Role.PROXY_ADMIN_VIEWER,):
        return Forbidden(
            f"user not allowed to access this route, role= proxy_admin_viewer. Trying to access: {request.path}"
        )
    user_id = principal.user_id or "unknown"
    return Unauthenticated(
        "Authentication Error, Only proxy admin can be used to generate, delete, update info for new "
        f"keys/users/teams. Route={request.path}. Your role={principal.role.value}. "
        f"Your user_id={user_id[:6]}****{user_id[-2:]}"
    )


def current_principal() -> Principal:
    """The caller of the current request, inside a view that `requires` one."""
    return cast(Principal, g.principal)
