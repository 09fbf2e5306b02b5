"""A key gets a new secret and stays the same key: one row moves to a new hash, and all that names the old one follows.

What was written about the past (spend logs, daily totals, audit) has the hash of its time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ..durations import life_ends_at
from .access_group import AccessGroup
from .budget import BudgetWindow
from .versioned import ChangedMeanwhile
from .virtual_key import DeprecatedKey, VirtualKey


async def rotate_key(key: VirtualKey, *, token: str, key_name: str, grace: timedelta | None) -> VirtualKey:
    """Move the key to the hash `token`; spend, ids, alias and budget windows stay. Run it inside a transaction.

    The old hash is stored in DeprecatedKey and is good until `revoke_at`: for `grace`, or not at all (None), which then
    ends every earlier secret of the key too. The row stays after that, so that the spend of a call which began under
    the old hash can find its key. Raises DoesNotExist when the key was rotated or deleted meanwhile, ChangedMeanwhile
    when it was changed otherwise.
    """
    now, old = datetime.now(UTC), key.token
    columns = {
        "key_name": key_name,
        "rotation_count": key.rotation_count + 1,
        "last_rotation_at": now,
        "key_rotation_at": life_ends_at(key.rotation_interval, now) if key.rotation_interval else None,
        "updated_at": now,
        "version": key.version + 1,
    }
    if not await VirtualKey.filter(token=old, version=key.version).update(**columns):
        # Rotated or deleted: gone. Changed in another way: the caller reads it again.
        raise ChangedMeanwhile((await VirtualKey.get(token=old)).version)
    await _rename(old, token)
    if grace is None:
        await DeprecatedKey.filter(active_token=old, revoke_at__gt=now).update(revoke_at=now)
    await DeprecatedKey.filter(active_token=old).update(active_token=token)
    await DeprecatedKey.create(token=old, active_token=token, revoke_at=now + (grace or timedelta()))
    await BudgetWindow.filter(kind="key", id=old).update(id=token)
    await _move_in_access_groups(old, token)
    return await VirtualKey.get(token=token)


async def _rename(old: str, new: str) -> None:
    """The ORM changes no primary key, so this is written out."""
    connection = VirtualKey._meta.db
    first, second = ("?", "?") if connection.capabilities.dialect == "sqlite" else ("$1", "$2")
    statement = f"UPDATE virtual_key SET token = {first} WHERE token = {second}"  # noqa: S608 (placeholders only)
    await connection.execute_query(statement, [new, old])


async def _move_in_access_groups(old: str, new: str) -> None:
    for group in await AccessGroup.all().order_by("access_group_id").only("access_group_id", "assigned_key_ids"):
        if old in group.assigned_key_ids:
            whole = await AccessGroup.get(access_group_id=group.access_group_id)
            moved = [new if token == old else token for token in whole.assigned_key_ids]
            await whole.write({"assigned_key_ids": moved}, expected_version=whole.version)


async def due_keys(now: datetime, limit: int = 100) -> list[VirtualKey]:
    """Keys with `auto_rotate` whose `key_rotation_at` has passed, the longest overdue first."""
    return await VirtualKey.filter(key_rotation_at__lte=now, auto_rotate=True).order_by("key_rotation_at").limit(limit)
