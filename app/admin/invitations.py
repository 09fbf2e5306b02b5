"""Invitations: links with which people set a first password. Their ids are secrets, so nothing lists them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from quart import Blueprint

from ..auth.principal import current_principal
from ..errors import NotFound, PlainDenial
from ..models import Invitation, User
from ..security.credentials import new_invitation_id
from ..services import services
from ..web.fields import flag, identifier, read_body, read_query, takes
from .audit_trail import record_change

blueprint = Blueprint("admin_invitations", __name__)

Answer = dict[str, Any]
_TABLE = "LiteLLM_InvitationLink"
_LIFE = timedelta(days=7)
_WHICH = {"invitation_id": identifier().required}


def _audited(invitation: Invitation) -> dict[str, Any]:
    """The row without its id, by which the audit trail would hand the link to every reader."""
    return {name: value for name, value in invitation.as_wire().items() if name != "id"}


@blueprint.post("/invitation/new")
@takes(body={"user_id": identifier().required})
async def create_invitation() -> Answer:
    """Good for seven days and one claim."""
    caller = current_principal().user_id
    user_id = (await read_body())["user_id"] or ""
    if not await User.exists(user_id=user_id):
        raise NotFound(f"User not found: {user_id}", param="user_id")
    expires_at = datetime.now(UTC) + _LIFE
    async with services().database.transaction():
        invitation = await Invitation.create(
            id=new_invitation_id(), user_id=user_id, expires_at=expires_at, created_by=caller, updated_by=caller
        )
        await record_change("created", _TABLE, user_id, after=_audited(invitation))
    return invitation.as_wire()


async def _need(asked: Mapping[str, Any]) -> Invitation:
    invitation = await Invitation.get_or_none(id=(asked["invitation_id"] or "")[:64])
    if invitation is None:
        raise PlainDenial("Invitation id does not exist in the database.", status=400, is_nested=True)
    return invitation


@blueprint.get("/invitation/info")
@takes(query=_WHICH)
async def invitation_info() -> Answer:
    return (await _need(read_query())).as_wire()


@blueprint.post("/invitation/update")
@takes(body={**_WHICH, "is_accepted": flag().required})
async def update_invitation() -> Answer:
    """Close a link without a claim, or open it again; its last day stays."""
    sent = await read_body()
    invitation = await _need(sent)
    before = _audited(invitation)
    invitation.is_accepted = sent["is_accepted"]
    invitation.accepted_at = datetime.now(UTC) if sent["is_accepted"] else None
    invitation.updated_by = current_principal().user_id
    async with services().database.transaction():
        await invitation.save(update_fields=["is_accepted", "accepted_at", "updated_by", "updated_at"])
        await record_change("updated", _TABLE, invitation.user_id, before=before, after=_audited(invitation))
    return invitation.as_wire()


@blueprint.post("/invitation/delete")
@takes(body=_WHICH)
async def delete_invitation() -> Answer:
    invitation = await _need(await read_body())
    async with services().database.transaction():
        await invitation.delete()
        await record_change("deleted", _TABLE, invitation.user_id, before=_audited(invitation))
    return invitation.as_wire()
