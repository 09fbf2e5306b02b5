"""A person's own password."""

from __future__ import annotations

import asyncio
from typing import Any

from quart import Blueprint, request
from tortoise.exceptions import DoesNotExist

from ..auth.principal import Principal, current_principal
from ..errors import GatewayError, PlainDenial
from ..models import User
from ..security.credentials import hash_password, verify_password
from ..services import services
from ..web.fields import read_body, takes, text
from .audit_trail import USERS, record_change
from .users import end_sessions

blueprint = Blueprint("admin_passwords", __name__)

Answer = dict[str, Any]
_LONGEST = 1024


def check_password(password: str) -> None:
    """Raises 400 for a password that the instance does not take (`password_policy_min_length`)."""
    shortest = max(services().settings.password_min_length, 1)
    if len(password) < shortest or not password.strip():
        message = f"The password must have at least {shortest} characters"
        raise GatewayError(message, status=400, type="validation_error", param="password")


@blueprint.post("/user/password/change")
@takes(body={"current_password": text(_LONGEST).required, "new_password": text(_LONGEST).required})
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
    await _write(user, await asyncio.to_thread(hash_password, sent["new_password"]), principal)
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


async def _write(user: User, hashed: str, principal: Principal) -> None:
    try:
        async with services().database.transaction():
            await user.write({"password": hashed})
            await end_sessions(user.user_id, but=principal.key_hash)
            await record_change("updated", USERS, user.user_id, before={}, after={"password": "changed"})
    except DoesNotExist:
        raise PlainDenial("Your user was deleted meanwhile", status=403, is_nested=True) from None
    services().keys.forget_user(user.user_id)
