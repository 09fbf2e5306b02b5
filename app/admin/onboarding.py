"""Accepting an invitation: the link earns a short-lived token, the token and the link set the first password once."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from quart import Blueprint, request

from ..auth.login import open_session
from ..auth.roles import Role
from ..errors import PlainDenial
from ..models import AuditLog, Invitation, User
from ..security.credentials import hash_password, onboarding_token, read_onboarding_token, session_token
from ..services import services
from ..web.fields import Table, identifier, read_body, read_query, takes, text
from .audit_trail import USERS
from .passwords import check_password
from .users import end_sessions

blueprint = Blueprint("admin_onboarding", __name__)

Answer = dict[str, Any]
_LIFE = timedelta(minutes=15)
_CLAIM: Table = {
    "invitation_link": identifier().required,
    "user_id": identifier().required,
    "password": text(1024).required,
}


def _refused(message: str) -> PlainDenial:
    return PlainDenial(message, status=401, is_nested=True)


async def _open_invitation(link: str | None) -> tuple[Invitation, User]:
    """The invitation behind a link and whom it is for. Raises 401 with what is wrong with it."""
    invitation = await Invitation.get_or_none(id=(link or "")[:64])
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
    invitation, user = await _open_invitation(read_query()["invite_link"])
    expires_at = datetime.now(UTC) + _LIFE
    master_key = services().settings.master_key
    claims = {
        "user_id": user.user_id,
        "key": onboarding_token(invitation.id, user.user_id, expires_at, master_key),
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
    return {"login_url": _console(), "token": session, "user_email": user.user_email, "user": user.as_wire()}


async def _claim(invitation: Invitation, user: User, hashed: str) -> None:
    """Raises 401 when the link was used, closed or deleted since it was read."""
    now = datetime.now(UTC)
    async with services().database.transaction():
        is_first = await Invitation.filter(id=invitation.id, is_accepted=False, expires_at__gt=now).update(
            is_accepted=True, accepted_at=now, updated_at=now, updated_by=user.user_id
        )
        if not is_first:
            raise _refused("Invitation link has already been used")
        # Other links to the same user would set the password once more.
        await Invitation.filter(user_id=user.user_id, is_accepted=False).update(is_accepted=True, updated_at=now)
        await user.write({"password": hashed})
        await end_sessions(user.user_id)
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
    services().keys.forget_user(user.user_id)
