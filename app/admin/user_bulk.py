"""Many users in one call: each succeeds or fails for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quart import Blueprint

from ..auth.principal import current_principal
from ..errors import GatewayError
from ..models import User
from ..web.fields import Table, bad_request, flag, json_object, read_body, read_fields, takes
from .key_bulk import MOST_ITEMS, objects
from .user_fields import CHANGED_USER
from .users import change_user

blueprint = Blueprint("admin_user_bulk", __name__)

Answer = dict[str, Any]
_BULK: Table = {"users": objects(CHANGED_USER), "all_users": flag(), "user_updates": json_object()}
_OF_ONE_USER = ("user_id", "user_email", "password", "sso_user_id", "version")


@blueprint.post("/user/bulk_update")
@takes(body=_BULK)
async def update_users() -> Answer:
    sent = await read_body()
    items = await _everybody(sent) if sent.get("all_users") else sent.get("users") or []
    if not items:
        raise bad_request("Send users, or all_users with user_updates", "users")
    results = [await _updated(item) for item in items]
    successes = sum(result["success"] for result in results)
    return {
        "results": results,
        "total_requested": len(results),
        "successful_updates": successes,
        "failed_updates": len(results) - successes,
    }


async def _everybody(sent: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The same change for every user. Raises 400 when there are more than one call may change."""
    change = sent.get("user_updates") or {}
    if not change:
        raise bad_request("all_users needs user_updates", "user_updates")
    for name in _OF_ONE_USER:
        if name in change:
            raise bad_request(f"'{name}' cannot be the same for all users", "user_updates")
    user_ids = await User.all().order_by("user_id").limit(MOST_ITEMS + 1).values_list("user_id", flat=True)
    if len(user_ids) > MOST_ITEMS:
        raise bad_request(f"There are more than {MOST_ITEMS} users: name those to change in `users`", "all_users")
    return [{**change, "user_id": user_id} for user_id in user_ids]


async def _updated(item: Mapping[str, Any]) -> Answer:
    named = {name: item.get(name) if isinstance(item.get(name), str) else None for name in ("user_id", "user_email")}
    try:
        sent = read_fields(item, CHANGED_USER)
        user = await change_user(sent, current_principal(), version=sent.get("version"))
    except GatewayError as problem:
        return {**named, "success": False, "error": problem.message, "updated_user": None}
    row = user.as_wire()
    return {
        "user_id": row["user_id"],
        "user_email": row["user_email"],
        "success": True,
        "error": None,
        "updated_user": row,
    }
