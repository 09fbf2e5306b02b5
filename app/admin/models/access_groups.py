"""Access groups that are rows: models under one name, and the teams and keys that were given it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from quart import Blueprint
from tortoise.exceptions import DoesNotExist, IntegrityError

from ...auth.model_access import NO_MODEL
from ...auth.principal import current_principal
from ...errors import Conflict, NotFound
from ...models import AccessGroup, ChangedMeanwhile, Team, VirtualKey
from ...security.credentials import key_hash_of
from ...web.fields import Table, bad_request, identifier, may_exist, read_body, read_query, takes, text, text_list
from ..audit.trail import ACCESS_GROUPS, record_change
from ..changes import VERSION, change_row, create_row, delete_row, expected_version, transaction, write_row
from ..paging import page_field, size_field

blueprint = Blueprint("admin_unified_access_groups", __name__)

Answer = dict[str, Any]
_MAX_ASSIGNED = 10_000
_FIELDS: Table = {
    "description": text(2000),
    "access_model_names": text_list(),
    "access_mcp_server_ids": text_list(),
    "access_agent_ids": text_list(),
    "assigned_team_ids": text_list(),
    "assigned_key_ids": text_list(),
}
_NEW: Table = {**_FIELDS, "access_group_name": identifier().required}
_CHANGED: Table = {**_FIELDS, **VERSION, "access_group_name": identifier()}
_LISTED: Table = {"page": page_field(), "page_size": size_field(1000), "search": identifier()}


async def _need(group_id: str) -> AccessGroup:
    group = await AccessGroup.get_or_none(access_group_id=group_id) if may_exist(group_id) else None
    if group is None:
        raise NotFound(f"Access group '{group_id[:80]}' not found", param="access_group_id")
    return group


def _taken(name: str) -> Conflict:
    return Conflict(f"Access group with name '{name}' already exists", param="access_group_name")


def _columns(sent: Mapping[str, Any]) -> Answer:
    """The columns that a request sets. Keys may be named by their secret and are kept by their hash."""
    columns = {name: sent[name] for name in _NEW if name in sent}
    if "assigned_key_ids" in columns:
        columns["assigned_key_ids"] = [key_hash_of(key) for key in columns["assigned_key_ids"]]
    for name in ("assigned_team_ids", "assigned_key_ids"):
        if len(columns.get(name, ())) > _MAX_ASSIGNED:
            raise bad_request(f"At most {_MAX_ASSIGNED} can be assigned", name)
    return {name: list(dict.fromkeys(value)) if isinstance(value, list) else value for name, value in columns.items()}


@blueprint.post("/v1/access_group")
@blueprint.post("/v1/unified_access_group")
@takes(body=_NEW)
async def create_group() -> tuple[Answer, int]:
    sent = await read_body()
    if sent["access_group_name"] is None:
        raise bad_request("access_group_name must not be empty", "access_group_name")
    group_id, user_id = str(uuid.uuid4()), current_principal().user_id
    columns = _columns(sent)
    try:
        async with transaction():
            group = await create_row(
                AccessGroup, access_group_id=group_id, **columns, created_by=user_id, updated_by=user_id
            )
            await _assign(group_id, {}, columns)
            await record_change("created", ACCESS_GROUPS, group_id, after=group.to_json())
    except IntegrityError:
        raise _taken(sent["access_group_name"]) from None
    return group.to_json(), 201


@blueprint.get("/v1/access_group")
@blueprint.get("/v1/unified_access_group")
@takes(query=_LISTED)
async def list_groups() -> list[Answer]:
    """By name: the first 1000, or a page."""
    params = read_query(page=1, page_size=1000)
    query = AccessGroup.all()
    if params["search"]:
        query = query.filter(access_group_name__icontains=params["search"])
    start = (params["page"] - 1) * params["page_size"]
    return [row.to_json() for row in await query.order_by("access_group_name").offset(start).limit(params["page_size"])]


@blueprint.get("/v1/access_group/<path:access_group_id>")
@blueprint.get("/v1/unified_access_group/<path:access_group_id>")
async def group_info(access_group_id: str) -> Answer:
    return (await _need(access_group_id)).to_json()


@blueprint.put("/v1/access_group/<path:access_group_id>")
@blueprint.put("/v1/unified_access_group/<path:access_group_id>")
@takes(body=_CHANGED)
async def update_group(access_group_id: str) -> Answer:
    """Only what is sent changes."""
    sent = await read_body()
    group = await _need(access_group_id)
    columns = _columns(sent)
    if columns.get("access_group_name", "") is None:
        raise bad_request("access_group_name must not be empty", "access_group_name")
    columns["updated_by"] = current_principal().user_id
    # Without a version of the caller's: the one whose assignments are compared below.
    version = expected_version(sent) or group.version
    try:
        async with transaction():
            before = {name: getattr(group, name) for name in ("assigned_team_ids", "assigned_key_ids")}
            await change_row(group, columns, table=ACCESS_GROUPS, object_id=group.access_group_id, version=version)
            await _assign(group.access_group_id, before, columns)
    except IntegrityError:
        raise _taken(columns["access_group_name"]) from None
    return group.to_json()


@blueprint.delete("/v1/access_group/<path:access_group_id>")
@blueprint.delete("/v1/unified_access_group/<path:access_group_id>")
async def delete_group(access_group_id: str) -> tuple[str, int]:
    group = await _need(access_group_id)
    before = {"assigned_team_ids": group.assigned_team_ids, "assigned_key_ids": group.assigned_key_ids}
    async with transaction():
        await _assign(group.access_group_id, before, dict.fromkeys(before, ()))
        await delete_row(group)
        await record_change("deleted", ACCESS_GROUPS, group.access_group_id, before=group.to_json())
    return "", 204


# ---- the other side: `access_group_ids` of teams and keys ----------------------------------------------------------


async def _assign(group_id: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Write the group into the rows of those who gain it, and out of those who lose it.

    Raises 400 for somebody unknown who would gain it, 409 when one of them is changed at the same moment.
    """
    for name, table, key in (("assigned_team_ids", Team, "team_id"), ("assigned_key_ids", VirtualKey, "token")):
        if name in after:
            old, new = set(before.get(name) or ()), set(after[name])
            await _change_rows(table, key, group_id, gained=new - old, lost=old - new, param=name)


async def _change_rows(
    table: type[Team] | type[VirtualKey], key: str, group_id: str, *, gained: set[str], lost: set[str], param: str
) -> None:
    rows = {getattr(row, key): row for row in await _rows(table, key, gained | lost)}
    unknown = sorted(gained - set(rows))
    if unknown:
        raise bad_request(f"Unknown: {', '.join(unknown[:20])}", param)
    for id, row in sorted(rows.items()):
        others = [other for other in row.access_group_ids if other != group_id]
        groups = [*others, group_id] if id in gained else others
        if groups == row.access_group_ids:
            continue
        columns: dict[str, Any] = {"access_group_ids": groups}
        if not groups and not row.models:
            # The group was all that they might call, and an empty list grants everything.
            columns["models"] = [NO_MODEL]
        try:
            await write_row(row, columns, expected_version=row.version)
        except (ChangedMeanwhile, DoesNotExist):
            raise Conflict(f"{id} was changed meanwhile; try again", param=param) from None


async def _rows(table: type[Team] | type[VirtualKey], key: str, ids: Iterable[str]) -> list[Any]:
    listed = sorted(ids)
    rows: list[Any] = []
    for start in range(0, len(listed), 500):
        rows += await table.filter(**{f"{key}__in": listed[start : start + 500]})
    return rows
