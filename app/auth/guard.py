"""The guard of every route: looks the route up in the policy table, authenticates, and refuses.

It runs before each view, so that a view begins with a caller who may be there (`current_principal`).
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from quart import Quart, g, request

from ..errors import Forbidden, InvalidRequest, PlainDenial, Unauthenticated
from ..logs import bind_request
from ..services import Services, services
from ..web.request_body import CONSOLE_BODY_BYTES, PUBLIC_BODY_BYTES, admit_body
from .key_directory import MASTER_KEY_HASH
from .policy import GROUP_ACCESS, ROUTES, Access, Refusal
from .principal import Principal, key_from
from .roles import Role

View = TypeVar("View", bound=Callable[..., Awaitable[Any]])

_OWN_METHODS = frozenset({"HEAD", "OPTIONS"})


def access_of_routes(app: Quart, route_groups: Mapping[str, str]) -> dict[tuple[str, str], Access | str]:
    """(method, rule) -> its policy, or "console" for pages that the console guards. Deny by default.

    Raises RuntimeError with every route that the table does not name.
    """
    accesses: dict[tuple[str, str], Access | str] = {}
    missing: list[str] = []
    for rule in app.url_map.iter_rules():
        group = route_groups.get(rule.endpoint.partition(".")[0], "")
        mark = getattr(app.view_functions[rule.endpoint], "access", None)
        for method in sorted((rule.methods or set()) - _OWN_METHODS):
            access = mark or GROUP_ACCESS.get(group) or ROUTES.get(f"{method} {rule.rule}")
            if access is None:
                missing.append(f"{method} {rule.rule}")
            else:
                accesses[method, rule.rule] = access
    if missing:
        raise RuntimeError(f"app/auth/policy.py does not say who may call: {', '.join(missing)}")
    return accesses


def guard(app: Quart, accesses: Mapping[tuple[str, str], Access | str]) -> None:
    """Check every request to a known route before its view runs, and before its body is read."""

    @app.before_request
    async def admit() -> None:
        rule = request.url_rule
        if rule is None or request.method == "OPTIONS":
            return
        method = "GET" if request.method == "HEAD" else request.method
        access = accesses.get((method, rule.rule))
        if access is None or isinstance(access, str) or not access.is_admitted_later:
            # Calls have an id of their own, which their client learns.
            bind_request(str(uuid.uuid4()))
        if isinstance(access, Access) and not access.is_public:
            g.principal = await _admitted(access)
            admit_body(request)
        else:
            admit_body(request, CONSOLE_BODY_BYTES if isinstance(access, str) else PUBLIC_BODY_BYTES)


async def _admitted(access: Access) -> Principal:
    query_key = request.args.get("key") if access.takes_key_in_query else None
    principal = await authenticate(cast(Mapping[str, str], request.headers), query_key=query_key)
    if access.is_admitted_later:
        return principal
    principal.refuse_unfit(request.path, services().route_groups.get(request.blueprint or "", "admin"))
    if access.is_master_only and principal.key_hash != MASTER_KEY_HASH:
        raise _refusal(principal, access)
    if principal.role not in access.roles and not (access.opens_to_org_admins and principal.organizations):
        raise _refusal(principal, access)
    return principal


async def authenticate(
    headers: Mapping[str, str], app_services: Services | None = None, *, query_key: str | None = None
) -> Principal:
    """The caller behind the request's key: from memory, else from the database. Checks that it is known, not more.

    `headers` finds lower-case names. `app_services` is needed only where
    there is no current app. `query_key`: see `key_from`.
    """
    app_services = app_services or services()
    own_header = app_services.settings.key_header_name
    key = key_from(headers, own_header.lower() if own_header else None, query_key)
    return await app_services.keys.principal_of(key)


def _refusal(principal: Principal, access: Access) -> Exception:
    """In the words and with the status of the route; 401 for most, since SDKs depend on it."""
    role, path = principal.role, request.path
    if access.refusal is Refusal.PLAIN:
        return PlainDenial(f"Only admins may call {path}. Your role={role.value}", status=403, is_nested=True)
    if access.refusal is Refusal.BAD_REQUEST:
        return InvalidRequest(f"Admin-only endpoint. Your role={role.value}", type="bad_request_error")
    if access.refusal is Refusal.FORBIDDEN or role is Role.PROXY_ADMIN_VIEWER:
        return Forbidden(f"user not allowed to access this route, role= {role.value}. Trying to access: {path}")
    user_id = principal.user_id or "unknown"
    return Unauthenticated(
        "Authentication Error, Only proxy admin can be used to generate, delete, update info for new "
        f"keys/users/teams. Route={path}. Your role={role.value}. "
        f"Your user_id={user_id[:6]}****{user_id[-2:]}"
    )
