"""Sign-in of a worker: discovery, the password routes, the one-time code, logout."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
from quart import Blueprint, Response, jsonify, redirect, request

from ..errors import InvalidRequest, NotFound, PlainDenial, TooManyRequests, Unauthenticated
from ..models import User, VirtualKey
from ..models.user import ADMIN_USER_ID
from ..models.virtual_key import SESSION_TEAM_ID
from ..security.credentials import (
    hash_key,
    key_name,
    new_virtual_key,
    pkce_challenge,
    same_secret,
    session_token,
    verify_password,
)
from ..services import services
from .login_codes import LIFETIME_SECONDS
from .principal import current_principal
from .roles import Role

# Not the threads of everyone: many guesses at once would hold up the look-up of providers' addresses.
_PASSWORD_THREADS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="password")

login_blueprint = Blueprint("login", __name__)
worker_login_blueprint = Blueprint("worker_login", __name__)
discovery_blueprint = Blueprint("discovery", __name__)


@discovery_blueprint.get("/.well-known/litellm-ui-config")
@discovery_blueprint.get("/litellm/.well-known/litellm-ui-config")
async def discover() -> Response:
    settings = services().settings
    return jsonify(
        {
            "server_root_path": settings.server_root_path,
            "proxy_base_url": settings.proxy_base_url,
            "auto_redirect_to_sso": False,
            "admin_ui_disabled": settings.disable_admin_ui,
            "sso_configured": False,
            "hide_default_credentials_hint": settings.ui_password is not None,
            "is_control_plane": settings.is_control_plane,
            "mcp_stdio_enabled": False,
            "workers": [
                {"worker_id": worker.worker_id, "name": worker.name, "url": worker.url} for worker in settings.workers
            ],
        }
    )


@login_blueprint.post("/login")
async def form_login() -> Response:
    form = await request.form
    try:
        token = await _sign_in(form.get("username", ""), form.get("password", ""))
    except TooManyRequests as refusal:
        page = f"<!doctype html><title>Sign in</title><p>{refusal.message}</p>"
        return Response(page, status=429, headers=refusal.headers, content_type="text/html; charset=utf-8")
    return _with_cookie(redirect(_landing(), 303), token)


@login_blueprint.post("/v2/login")
async def login() -> Response:
    body = await _json_object()
    token = await _sign_in(_field(body, "username"), _field(body, "password"))
    return _with_cookie(jsonify({"redirect_url": _landing(), "token": token}), token)


@worker_login_blueprint.post("/v3/login")
async def start_worker_login() -> Response:
    """A right password earns a code, not a session. `code_challenge` (ours, RFC 7636 S256) binds it to who asked."""
    _refuse_without_control_plane()
    body = await _json_object()
    token = await _sign_in(_field(body, "username"), _field(body, "password"), via_console=True)
    payload = {"token": token, "redirect_url": _landing(), "challenge": _field(body, "code_challenge") or None}
    return jsonify({"code": await services().login_codes.issue(payload), "expires_in": LIFETIME_SECONDS})


@worker_login_blueprint.post("/v3/login/exchange")
async def exchange_login_code() -> Response:
    _refuse_without_control_plane()
    body = await _json_object()
    code = body.get("code")
    if code is None or code == "":
        raise InvalidRequest("Missing 'code' parameter", type="auth_error", param="code")
    payload = await services().login_codes.take(code) if isinstance(code, str) else None
    if payload is None or not _verifies(payload, _field(body, "code_verifier")):
        raise Unauthenticated("Invalid or expired login code", param="code")
    answer = {"token": payload["token"], "redirect_url": payload["redirect_url"]}
    return _with_cookie(jsonify(answer), payload["token"])


@login_blueprint.post("/session/logout")
async def logout() -> Response:
    principal = current_principal()
    if not principal.is_session:
        raise PlainDenial("Only a session key can be revoked here", status=403, is_nested=True)
    revoked = await VirtualKey.filter(token=principal.key_hash).delete()
    services().keys.forget(f"key:{principal.key_hash}")
    response = jsonify({"message": "Session revoked." if revoked else "Session already revoked."})
    response.delete_cookie("token")
    return response


def _refuse_without_control_plane() -> None:
    if services().settings.control_plane_url is None:
        raise NotFound(
            "This worker has no control plane: set general_settings.control_plane_url in its configuration",
            param="control_plane_url",
        )


def _verifies(payload: dict[str, Any], verifier: str) -> bool:
    challenge = payload.get("challenge")
    return challenge is None or same_secret(pkce_challenge(verifier), challenge)


async def _sign_in(username: str, password: str, *, via_console: bool = False) -> str:
    """A session token for the right name and password. Raises 401 or, for a throttled caller, 429."""
    address, throttle = request.remote_addr, services().login_throttle
    is_admin = _is_built_in_admin(username, password)
    # Who proves to be the admin without a thread of its own need not queue for one.
    with nullcontext() if is_admin else throttle.place(address):
        async with throttle.turn(address, username):
            await throttle.refuse_blocked(address, username, via_console=via_console)
            user = await _built_in_admin() if is_admin else await _user_of(username, password)
            if user is None:
                await throttle.count_failure(address, username, via_console=via_console)
                raise Unauthenticated(
                    "Invalid credentials used to access UI. Check the user name and the password.",
                    param="invalid_credentials",
                )
            await throttle.forget(address, username)
        return await open_session(user)


def _is_built_in_admin(username: str, password: str) -> bool:
    settings = services().settings
    is_right = same_secret(username, settings.ui_username) & same_secret(password, settings.admin_password)
    return is_right and not settings.disable_env_credential_login


async def _built_in_admin() -> User:
    user, _ = await User.update_or_create(defaults={"user_role": Role.PROXY_ADMIN.value}, user_id=ADMIN_USER_ID)
    return user


async def _user_of(username: str, password: str) -> User | None:
    """The user of a row with this password."""
    email = username.lower()
    # No row has such a name, and a database would not even take the question.
    is_possible = 0 < len(email) <= 255 and "\x00" not in email
    row = await User.get_or_none(user_email=email) if is_possible else None
    stored = row.password if row else None
    if await asyncio.get_running_loop().run_in_executor(_PASSWORD_THREADS, verify_password, password, stored):
        return row
    return None


async def open_session(user: User) -> str:
    """Write the session's virtual key and wrap it into the token that dashboards read."""
    settings = services().settings
    key, expires_at = new_virtual_key(), datetime.now(UTC) + settings.session_duration
    await VirtualKey.filter(team_id=SESSION_TEAM_ID, expires__lt=datetime.now(UTC)).delete()
    await VirtualKey.create(
        token=hash_key(key),
        key_name=key_name(key),
        team_id=SESSION_TEAM_ID,
        user_id=user.user_id,
        expires=expires_at,
        models=[],
        max_budget=settings.max_ui_session_budget,
        metadata={"login_method": "username_password"},
        created_by=user.user_id,
        updated_by=user.user_id,
    )
    claims = {
        "user_id": user.user_id,
        "key": key,
        "user_email": user.user_email,
        "user_role": user.user_role or Role.INTERNAL_USER_VIEWER.value,
        "login_method": "username_password",
        "premium_user": True,
        "auth_header_name": settings.key_header_name or "Authorization",
        "disabled_non_admin_personal_key_creation": False,
        "server_root_path": settings.server_root_path,
        "password_reset_required": False,
    }
    return session_token(claims, expires_at, settings.master_key)


async def _json_object() -> dict[str, Any]:
    """The body as an object, whatever its content type says."""
    try:
        return msgspec.json.decode(await request.get_data(), type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("The body must be a JSON object", type="auth_error", param="request_body") from None


def _field(body: dict[str, Any], name: str) -> str:
    """Text of the body; a number is its digits, as of a password that somebody wrote without quotes."""
    value = body.get(name)
    return value if isinstance(value, str) else str(value) if isinstance(value, int | float) else ""


def _landing() -> str:
    base = services().settings.proxy_base_url or request.host_url.rstrip("/")
    return f"{base}{services().settings.server_root_path}/ui?login=success"


def _with_cookie(response: Any, token: str) -> Response:
    """The cookie that dashboards look for, but HttpOnly: the body carries the token for scripts."""
    base = services().settings.proxy_base_url
    is_secure = urlsplit(base).scheme == "https" if base else request.is_secure
    response.set_cookie("token", token, path="/", httponly=True, samesite="Lax", secure=is_secure)
    return response  # type: ignore[no-any-return]
