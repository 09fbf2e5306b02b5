"""One way to write rows: in a transaction, and in force for the next call of every process once it is committed.

Processes remember what the rows say (the snapshot of a key, deployments, settings). Whatever writes here notes whom it
concerns, from one table. The commit of the outermost transaction lets them forget it; a rollback tells nobody anything.

Every row that the API answers carries `version`. Who sends it back with a change (field `version`, or header
`If-Match`) gets 409 when the row has another one by now.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from quart import request
from tortoise.exceptions import DoesNotExist
from tortoise.models import Model
from tortoise.queryset import QuerySet

from ..errors import Conflict, NotFound
from ..models import (
    AccessGroup,
    Budget,
    ChangedMeanwhile,
    ConfigEntry,
    Credential,
    DeprecatedKey,
    EndUser,
    ModelAccessGroupBudget,
    Organization,
    OrganizationMembership,
    StoredDeployment,
    Tag,
    Team,
    TeamMembership,
    User,
    Versioned,
    VirtualKey,
)
from ..services import services
from ..web.fields import Table, bad_request, whole
from .audit.trail import record_change

Row = TypeVar("Row", bound=Model)
# The rows that a written row belongs to (a budget to its team, say): it then concerns whom they concern, and nobody
# else. None: it stands for itself.
Owners = Iterable[Model] | None

# What a change of a row concerns, as the messages of `storage/announcements.py` name it: a kind, and the column with
# the id. What many keys share has no id: nobody looks for those that use it.
_CONCERNS: Mapping[type[Model], tuple[str, str | None]] = {
    VirtualKey: ("key", "token"),
    DeprecatedKey: ("key", "active_token"),
    User: ("user", "user_id"),
    OrganizationMembership: ("user", "user_id"),
    Team: ("team", "team_id"),
    TeamMembership: ("team", "team_id"),
    Organization: ("organization", "organization_id"),
    AccessGroup: ("all", None),
    Budget: ("all", None),
    EndUser: ("all", None),
    ModelAccessGroupBudget: ("all", None),
    Tag: ("all", None),
    Credential: ("deployments", None),
    StoredDeployment: ("deployments", None),
    ConfigEntry: ("config", None),
}

# Messages of the transaction that is open in this context, innermost first.
_pending: ContextVar[list[str]] = ContextVar("messages of an open transaction")


# ---- transactions --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def transaction() -> AsyncIterator[None]:
    """A transaction whose changes are announced after the commit of the outermost one, and never when it rolls back."""
    outer = _pending.get(None)
    messages: list[str] = []
    token = _pending.set(messages)
    try:
        async with services().database.transaction():
            yield
    finally:
        _pending.reset(token)
    if outer is not None:
        outer.extend(messages)
    else:
        await _put_in_force(messages)


@asynccontextmanager
async def announced_once() -> AsyncIterator[None]:
    """Announce what several transactions commit once, at the end; also when a later one of them fails."""
    messages: list[str] = []
    token = _pending.set(messages)
    try:
        yield
    finally:
        _pending.reset(token)
        await _put_in_force(messages)


async def _put_in_force(messages: Iterable[str]) -> None:
    """Let what was committed hold: here at once, in other processes a moment later."""
    for message in dict.fromkeys(messages):
        if message == "deployments":
            services().announcer.announce(message)
            await services().deployments.reload()
        elif message == "config":
            services().announcer.announce(message)
            services().reload_soon()
        else:
            services().keys.forget(message)


def row_written(row: Model, owners: Owners = None) -> None:
    """Note that a row was created, changed or deleted by other means than the functions below."""
    messages = _pending.get()
    for changed in [row] if owners is None else owners:
        kind, column = _CONCERNS[type(changed)]
        messages.append(kind if column is None else f"{kind}:{getattr(changed, column)}")


def _rows_written(model: type[Model], owners: Owners) -> None:
    """Note that nobody knows how many rows were written. Without owners that concerns every key."""
    if owners is None:
        kind, column = _CONCERNS[model]
        _pending.get().append(kind if column is None else "all")
        return
    for owner in owners:
        row_written(owner)


# ---- writing rows, inside a transaction ----------------------------------------------------------------------------


async def create_row(model: type[Row], *, owners: Owners = None, **columns: Any) -> Row:
    """A new row. IntegrityError passes through."""
    row = await model.create(**columns)
    row_written(row, owners)
    return row


async def write_row(
    row: Versioned, columns: Mapping[str, Any], *, expected_version: int | None = None, owners: Owners = None
) -> None:
    """`Versioned.write`, for a change that another audit row tells. Raises what that raises."""
    await row.write(columns, expected_version=expected_version)
    row_written(row, owners)


async def save_row(row: Model, *columns: str, owners: Owners = None) -> None:
    """Write these columns of a row that has no version."""
    await row.save(update_fields=columns)
    row_written(row, owners)


async def delete_row(row: Model, *, owners: Owners = None) -> None:
    await row.delete()
    row_written(row, owners)


async def update_rows(query: QuerySet[Any], *, owners: Owners = None, **columns: Any) -> int:
    """Write columns of all rows that match; answers how many those are."""
    number = int(await query.update(**columns))
    if number:
        _rows_written(query.model, owners)
    return number


async def delete_rows(query: QuerySet[Any], *, owners: Owners = None) -> int:
    """Delete all rows that match; answers how many those were."""
    number = int(await query.delete())
    if number:
        _rows_written(query.model, owners)
    return number


# ---- changing a row that somebody else may be changing -------------------------------------------------------------

# Add to the table of every body that changes a row.
VERSION: Table = {"version": whole(lowest=1, highest=2**31 - 1)}


def expected_version(sent: Mapping[str, Any]) -> int | None:
    """The version that the caller read, when they say it. Raises 400 for a header that is none."""
    if sent.get("version") is not None:
        return int(sent["version"])
    header = request.headers.get("If-Match", "").strip().removeprefix("W/").strip('"')
    if header in ("", "*"):
        return None
    if not header.isdecimal() or len(header) > 9:
        raise bad_request("If-Match must be the `version` of the row that was read", "If-Match")
    return int(header)


async def change_row(
    row: Versioned,
    columns: Mapping[str, Any],
    *,
    table: str,
    object_id: str,
    action: str = "updated",
    version: int | None = None,
    owners: Owners = None,
) -> dict[str, Any]:
    """Write `columns` of `row` and its audit row in one transaction; answers what differs now.

    Raises 409 when `version` is given and is not the row's, 404 when the row is gone. IntegrityError passes through.
    """
    before = _shown(row)
    try:
        async with transaction():
            await write_row(row, columns, expected_version=version, owners=owners)
            after = {name: value for name, value in _shown(row).items() if before.get(name) != value}
            await record_change(action, table, object_id, before=before, after=after)
    except ChangedMeanwhile as problem:
        raise Conflict(
            f"Somebody else changed this meanwhile: you sent version {version}, the current one is {problem.version}. "
            "Read it again and repeat your change.",
            param="version",
        ) from None
    except DoesNotExist:
        raise NotFound("It was deleted meanwhile") from None
    return after


def _shown(row: Any) -> dict[str, Any]:
    shown: dict[str, Any] = row.to_json()
    return shown
