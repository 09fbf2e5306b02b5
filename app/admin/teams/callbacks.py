"""Logging callbacks of a team. Their variables are credentials: encrypted, and never answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quart import Blueprint

from ...auth.principal import current_principal
from ...errors import Forbidden, PlainDenial
from ...models import Team
from ...security.callback_credentials import CALLBACKS, TYPES
from ...security.masking import MASK
from ...web.fields import Table, bad_request, identifier, json_object, one_of, read_body, takes
from ..changes import VERSION, expected_version
from ..settings.callback_fields import encrypted_callback
from .access import TeamPermissions, check_may_manage, permissions_over
from .rows import change_team, need_team, team_row

blueprint = Blueprint("admin_team_callbacks", __name__)

Answer = dict[str, Any]
Entries = list[dict[str, Any]]
_MAX_CALLBACKS = 20
_CALLBACK: Table = {
    **VERSION,
    "callback_name": identifier().required,
    "callback_type": one_of(*TYPES),
    "callback_vars": json_object(),
}


@blueprint.get("/team/<team_id>/callback")
async def list_callbacks(team_id: str) -> Answer:
    """Names by event, and the names of their variables."""
    team = await need_team(team_id)
    if await permissions_over(current_principal(), team) < TeamPermissions.READER:
        raise Forbidden("Only an admin of this instance, of the organization or of the team may see callbacks")
    return {"status": "success", "data": _shown(team)}


def _shown(team: Team) -> Answer:
    entries = _entries(team)
    return {
        "team_id": team.team_id,
        "success_callbacks": [entry["callback_name"] for entry in entries if entry["callback_type"] != "failure"],
        "failure_callbacks": [entry["callback_name"] for entry in entries if entry["callback_type"] != "success"],
        "callback_vars": {name: MASK for entry in entries for name in entry.get("variables", [])},
    }


def _entries(team: Team) -> Entries:
    stored = team.metadata.get(CALLBACKS)
    return [entry for entry in stored if "callback_name" in entry] if isinstance(stored, list) else []


@blueprint.post("/team/<team_id>/callback")
@takes(body=_CALLBACK)
async def add_callback(team_id: str) -> Answer:
    """Add one callback. Raises 400 for one that is there for the same event."""
    sent = await read_body()
    name, kind = sent["callback_name"] or "", sent.get("callback_type") or "success_and_failure"
    if not name:
        raise bad_request("callback_name must not be empty", "callback_name")
    encrypted = encrypted_callback(name, kind, sent.get("callback_vars") or {})

    def added(entries: Entries) -> Entries:
        if any(entry["callback_name"] == name and _overlap(entry["callback_type"], kind) for entry in entries):
            message = f"callback_name = {name} already exists for {kind} of team_id = {team_id}"
            raise PlainDenial(message, status=400, is_nested=True)
        if len(entries) >= _MAX_CALLBACKS:
            raise bad_request(f"A team may have {_MAX_CALLBACKS} callbacks", "callback_name")
        return [*entries, encrypted]

    return {"status": "success", "data": await team_row(await _change(team_id, added, expected_version(sent)))}


def _overlap(kind: str, other: str) -> bool:
    return kind == other or "success_and_failure" in (kind, other)


@blueprint.delete("/team/<team_id>/callback/<callback_name>")
async def delete_callback(team_id: str, callback_name: str) -> Answer:
    """Forget a callback and its variables. Raises 404 for an unknown one."""

    def removed(entries: Entries) -> Entries:
        remaining = [entry for entry in entries if entry["callback_name"] != callback_name]
        if len(remaining) == len(entries):
            raise PlainDenial(f"Callback not found: {callback_name}", status=404, is_nested=True)
        return remaining

    team = await _change(team_id, removed, expected_version({}))
    return {"status": "success", "message": f"Callback {callback_name} deleted", "data": _shown(team)}


@blueprint.post("/team/<team_id>/disable_logging")
async def disable_logging(team_id: str) -> Answer:
    """Forget all callbacks of a team."""
    team = await _change(team_id, lambda entries: [], expected_version({}))
    shown = _shown(team)
    lists = {name: shown[name] for name in ("team_id", "success_callbacks", "failure_callbacks")}
    return {"status": "success", "message": f"Logging disabled for team {team_id}", "data": lists}


async def _change(team_id: str, change: Callable[[Entries], Entries], version: int | None) -> Team:
    team = await need_team(team_id)
    await check_may_manage(current_principal(), team)

    async def columns_of(team: Team) -> Answer:
        return {"metadata": {**team.metadata, CALLBACKS: change(_entries(team))}}

    return await change_team(team_id, columns_of, version=version)
