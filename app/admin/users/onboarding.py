"""Invitations and passwords. An invitation is a link whose id is a secret, so nothing lists them. Accepting it earns a
short-lived token; token and link together set the first password once. Later a person changes their own.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from quart import Blueprint, request
from tortoise.exceptions import DoesNotExist

from ...auth.login import open_session
from ...auth.principal import Principal, current_principal
from ...auth.roles import Role
from ...errors import GatewayError, NotFound, PlainDenial
from ...models import AuditLog, Invitation, User
from ...security.credentials import (
    hash_key,
    hash_password,
    new_invitation_id,
    onboarding_token,
    read_onboarding_token,
    session_token,
    verify_password,
)
from ...services import services
from ...web.fields import Table, flag, identifier, read_body, read_query, takes, text
from ..audit.trail import USERS, record_change
from ..changes import transaction, write_row
from .routes import end_sessions

blueprint = Blueprint("admin_onboarding", __name__)

Answer = dict[str, Any]
# Table name in the audit log.
_INVITATIONS = "LiteLLM_InvitationLink"
_INVITATION_LIFE = timedelta(days=7)
_WHICH: Table = {"invitation_id": identifier().required}
_TOKEN_LIFE = timedelta(minutes=15)
_MAX_PASSWORD = 1024
_CLAIM: Table = {
    "invitation_link": identifier().required,
    "user_id": identifier().required,
    "password": text(_MAX_PASSWORD).required,
}


# ---- invitations, by admins ------------------------------------------------------------------------------------------


def _audited(invitation: Invitation) -> dict[str, Any]:
    """The row without its id, by which the audit trail would hand the link to every reader."""
    return {name: value for name, value in invitation.to_json("").items() if name != "id"}


@blueprint.post("/invitation/new")
@takes(body={"user_id": identifier().required})
async def create_invitation() -> Answer:
    """Good for seven days and one claim."""
    caller = current_principal().user_id
    user_id = (await read_body())["user_id"] or ""
    if not await User.exists(user_id=user_id):
        raise NotFound(f"User not found: {user_id}", param="user_id")
    expires_at, secret = datetime.now(UTC) + _INVITATION_LIFE, new_invitation_id()
    async with transaction():
        invitation = await Invitation.create(
            id=hash_key(secret), user_id=user_id, expires_at=expires_at, created_by=caller, updated_by=caller
        )
        await record_change("created", _INVITATIONS, user_id, after=_audited(invitation))
    return invitation.to_json(secret)


async def _need_invitation(params: Mapping[str, Any]) -> Invitation:
    invitation = await Invitation.of_link(params["invitation_id"] or "")
    if invitation is None:
        raise PlainDenial("Invitation id does not exist in the database.", status=400, is_nested=True)
    return invitation


@blueprint.get("/invitation/info")
@takes(query=_WHICH)
async def invitation_info() -> Answer:
    sent = read_query()
    return (await _need_invitation(sent)).to_json(sent["invitation_id"])


@blueprint.post("/invitation/update")
@takes(body={**_WHICH, "is_accepted": flag().required})
async def update_invitation() -> Answer:
    """Close a link without a claim, or open it again; its last day stays."""
    sent = await read_body()
    invitation = await _need_invitation(sent)
    before = _audited(invitation)
    invitation.is_accepted = sent["is_accepted"]
    invitation.accepted_at = datetime.now(UTC) if sent["is_accepted"] else None
    invitation.updated_by = current_principal().user_id
    async with transaction():
        await invitation.save(update_fields=["is_accepted", "accepted_at", "updated_by", "updated_at"])
        await record_change("updated", _INVITATIONS, invitation.user_id, before=before, after=_audited(invitation))
    return invitation.to_json(sent["invitation_id"])


@blueprint.post("/invitation/delete")
@takes(body=_WHICH)
async def delete_invitation() -> Answer:
    sent = await read_body()
    invitation = await _need_invitation(sent)
    async with transaction():
        await invitation.delete()
        await record_change("deleted", _INVITATIONS, invitation.user_id, before=_audited(invitation))
    return invitation.to_json(sent["invitation_id"])


# ---- accepting one ---------------------------------------------------------------------------------------------------


def _refused(message: str) -> PlainDenial:
    return PlainDenial(message, status=401, is_nested=True)


async def _open_invitation(link: str | None) -> tuple[Invitation, User]:
    """The invitation behind a link and whom it is for. Raises 401 with what is wrong with it."""
    invitation = await Invitation.of_link(link or "")
    user = await User.get_or_none(user_id=invitation.user_id) if invitation is not None else None
    if invitation is None or user is None:
        raise _refused("Invitation link does not exist")
    if invitation.is_accepted:
        raise _refused("Invitation link has already been used")
    if invitation.expires_at <= datetime.now(UTC):
        raise _refused("Invitation link has expired")
    return invitation, user


@blueprint.get("/onboarding/get_token")
@takes(query={"invite_link": identifier().required})
async def get_onboarding_token() -> Answer:
    """`token` is shaped like a session's, but its `key` can claim this invitation and do nothing else."""
    link = read_query()["invite_link"]
    _, user = await _open_invitation(link)
    expires_at = datetime.now(UTC) + _TOKEN_LIFE
    master_key = services().settings.master_key
    claims = {
        "user_id": user.user_id,
        "key": onboarding_token(link, user.user_id, expires_at, master_key),
        "user_email": user.user_email,
        "user_role": user.user_role or Role.INTERNAL_USER_VIEWER.value,
        "login_method": "username_password",
        "premium_user": True,
        "auth_header_name": services().settings.key_header_name or "Authorization",
        "disabled_non_admin_personal_key_creation": False,
        "server_root_path": services().settings.server_root_path,
    }
    token = session_token(claims, expires_at, master_key)
    return {"login_url": _console(), "token": token, "user_email": user.user_email}


def _console() -> str:
    """Without the token: an address ends up in histories and logs."""
    base = services().settings.proxy_base_url or request.host_url.rstrip("/")
    return f"{base}{services().settings.server_root_path}/ui/"


@blueprint.post("/onboarding/claim_token")
@takes(body=_CLAIM)
async def claim_invitation() -> Answer:
    """Set the password and sign in. Of two claims at once one wins, the other is told that the link was used."""
    sent = await read_body()
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    claims = read_onboarding_token(bearer.strip(), services().settings.master_key) if scheme == "Bearer" else None
    if claims is None:
        raise _refused("Invalid or expired onboarding token: open the invitation link again")
    if (claims["invitation_link"], claims["user_id"]) != (sent["invitation_link"], sent["user_id"]):
        raise _refused("The onboarding token is for another invitation")
    invitation, user = await _open_invitation(sent["invitation_link"])
    if user.user_id != sent["user_id"]:
        raise _refused("The invitation is for another user")
    check_password(sent["password"])
    await _claim(invitation, user, await asyncio.to_thread(hash_password, sent["password"]))
    session = await open_session(user)
    return {"login_url": _console(), "token": session, "user_email": user.user_email, "user": user.to_json()}


async def _claim(invitation: Invitation, user: User, hashed: str) -> None:
    """Raises 401 when the link was used, closed or deleted since it was read."""
    now = datetime.now(UTC)
    async with transaction():
        is_first = await Invitation.filter(id=invitation.id, is_accepted=False, expires_at__gt=now).update(
            is_accepted=True, accepted_at=now, updated_at=now, updated_by=user.user_id
        )
        if not is_first:
            raise _refused("Invitation link has already been used")
        # Other links to the same user would set the password once more.
        await Invitation.filter(user_id=user.user_id, is_accepted=False).update(is_accepted=True, updated_at=now)
        await write_row(user, {"password": hashed})
        await end_sessions(user)
        # No caller yet, so the audit row names the user who came.
        await AuditLog.create(
            id=str(uuid.uuid4()),
            changed_by=user.user_id,
            action="updated",
            table_name=USERS,
            object_id=user.user_id,
            before_value={},
            updated_values={"password": "****"},
        )


# ---- passwords -------------------------------------------------------------------------------------------------------


def check_password(password: str) -> None:
    """Raises 400 for a password that the instance does not take (`password_policy_min_length`)."""
    min_length = max(services().settings.password_min_length, 1)
    if len(password) < min_length or not password.strip():
        message = f"The password must have at least {min_length} characters"
        raise GatewayError(message, status=400, type="validation_error", param="password")


@blueprint.post("/user/password/change")
@takes(body={"current_password": text(_MAX_PASSWORD).required, "new_password": text(_MAX_PASSWORD).required})
async def change_password() -> Answer:
    """From a session only, with the old password; the user's other sessions end."""
    principal = current_principal()
    sent = await read_body()
    user = await User.get_or_none(user_id=principal.user_id or "") if principal.is_session else None
    if user is None:
        raise PlainDenial("Sign in with your password to change it", status=403, is_nested=True)
    if user.password is None:
        raise PlainDenial("You sign in without a password of this database", status=403, is_nested=True)
    await _check_current(user, sent["current_password"])
    check_password(sent["new_password"])
    if sent["new_password"] == sent["current_password"]:
        raise PlainDenial("The new password must differ from the current one", status=400, is_nested=True)
    await _write_password(user, await asyncio.to_thread(hash_password, sent["new_password"]), principal)
    return {"user_id": user.user_id, "message": "Password changed. Other sessions have ended."}


async def _check_current(user: User, password: str) -> None:
    """Raises 400 for a wrong password, 429 for too many: who holds a session must not guess in peace."""
    throttle, address, name = services().login_throttle, request.remote_addr, f"password of {user.user_id}"
    async with throttle.turn(address, name):
        await throttle.refuse_blocked(address, name)
        if not await asyncio.to_thread(verify_password, password, user.password):
            await throttle.count_failure(address, name)
            raise PlainDenial("The current password is wrong", status=400, is_nested=True)
        await throttle.forget(address, name)


async def _write_password(user: User, hashed: str, principal: Principal) -> None:
    try:
        async with transaction():
            await write_row(user, {"password": hashed})
            await end_sessions(user, but=principal.key_hash)
            await record_change("updated", USERS, user.user_id, before={}, after={"password": "changed"})
    except DoesNotExist:
        raise PlainDenial("Your user was deleted meanwhile", status=403, is_nested=True) from None
