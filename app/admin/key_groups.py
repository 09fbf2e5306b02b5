"""Which key has which access group is written on both sides: `access_group_ids` and `assigned_key_ids`."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import Conflict, NotFound
from ..models import AccessGroup, ChangedMeanwhile

_TRIES = 5


async def assign_access_groups(token: str, before: Iterable[str], after: Iterable[str]) -> None:
    """Write a key's groups into the groups too, inside the transaction of the key's change.

    Raises 404 for a group that does not exist and is new to the key, 409 when a group never holds still.
    """
    old, new = set(before), set(after)
    for group_id in sorted(old ^ new):
        await _assign(group_id, token, is_assigned=group_id in new)


async def _assign(group_id: str, token: str, *, is_assigned: bool) -> None:
    for tries_left in reversed(range(_TRIES)):
        group = await AccessGroup.get_or_none(access_group_id=group_id)
        if group is None and is_assigned:
            raise NotFound(f"Access group not found: {group_id}", param="access_group_ids")
        if group is None or (token in group.assigned_key_ids) is is_assigned:
            return
        others = [one for one in group.assigned_key_ids if one != token]
        tokens = [*others, token] if is_assigned else others
        try:
            await group.write({"assigned_key_ids": tokens}, expected_version=group.version)
            return
        except ChangedMeanwhile:
            if not tries_left:
                raise Conflict(f"Access group {group_id} is being changed by others. Try again.") from None
