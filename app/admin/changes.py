"""One way to change a row: only what was sent, with its audit row, refused when somebody else was faster.

Every row that the API answers carries `version`. Who sends it back with a change (field `version`, or header
`If-Match`) gets 409 when the row has another one by now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart import request
from tortoise.exceptions import DoesNotExist

from ..errors import Conflict, NotFound
from ..models import ChangedMeanwhile, Versioned
from ..services import services
from ..web.fields import Table, bad_request, whole
from .audit.trail import record_change

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
) -> dict[str, Any]:
    """Write `columns` of `row` and its audit row in one transaction; answers what differs now.

    Raises 409 when `version` is given and is not the row's, 404 when the row is gone. IntegrityError passes through.
    """
    before = _shown(row)
    try:
        async with services().database.transaction():
            await row.write(columns, expected_version=version)
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


async def deployments_changed() -> None:
    """Let a change of deployments or of their credentials hold: here at once, in other processes a moment later."""
    await services().deployments.reload()
    services().announcer.announce("deployments")
