"""A new secret for a key that stays the same key, and its spend set back by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from quart import Blueprint
from tortoise.exceptions import DoesNotExist, IntegrityError

from ...auth.principal import Principal, current_principal
from ...durations import life_ends_at
from ...errors import Conflict, NotFound, ValidationFailed
from ...models import ChangedMeanwhile, VirtualKey
from ...models.key_rotation import rotate_key
from ...security.credentials import hash_key, key_name, new_virtual_key
from ...services import services
from ...web.fields import Table, bad_request, duration, money, read_body, takes, text
from ..audit.trail import KEYS, record_change
from ..changes import VERSION, change_row, expected_version, row_written, transaction
from .access import KeyAccess, check_may_set, limited_to_calls, refused
from .changes import change_key, check_unused, custom_secret, find_key, key_answer, need_key
from .fields import CHANGED_KEY
from .grants import check_may_learn_secret, guarded_version, tightened
from .policy import refuse_custom_secret, within_ceilings
from .routes import refuse_session

blueprint = Blueprint("admin_key_regeneration", __name__)

Answer = dict[str, Any]
_NEW_SECRET: Table = {**CHANGED_KEY, "new_key": text(), "grace_period": duration()}
_ROUTE = "/key/regenerate"
_TRIES = 3


@blueprint.post("/key/regenerate")
@takes(body=_NEW_SECRET)
async def regenerate_key() -> Answer:
    sent = await read_body()
    if not sent.get("key"):
        raise ValidationFailed([("key", "Name the key to regenerate", "missing")])
    return await _regenerated(sent.pop("key"), sent)


@blueprint.post("/key/<path:key>/regenerate")
@takes(body=_NEW_SECRET)
async def regenerate_named_key(key: str) -> Answer:
    sent = await read_body()
    sent.pop("key", None)
    return await _regenerated(key, sent)


async def _regenerated(given: str, sent: dict[str, Any]) -> Answer:
    principal = current_principal()
    key = await find_key(given)
    if key is None:
        raise NotFound(f"Key {_shown(given)} not found.", param="key")
    await KeyAccess(principal).check_may_change([key], action="regenerate", route=_ROUTE)
    refuse_session(key)
    chosen, grace = sent.pop("new_key", None), _grace(sent.pop("grace_period", None))
    refuse_custom_secret(chosen)
    secret = custom_secret(chosen, "new_key") if chosen else new_virtual_key()
    await check_may_set(principal, sent, key)
    fields = limited_to_calls(principal, within_ceilings(sent), key, shows_secret=True)
    await check_may_learn_secret(principal, key)
    fields = await tightened(principal, fields, key)
    fields.pop("version", None)
    version = guarded_version(principal, sent, key)
    key = await _with_new_secret(key, secret, fields, principal, grace=grace, version=version)
    return {**key_answer(key, secret), "duration": sent.get("duration")}


def _shown(given: str) -> str:
    """A hash as it is, a secret by its end."""
    return f"sk-...{given[-4:]}" if given.startswith("sk-") else given[:64]


def _grace(period: str | None) -> timedelta | None:
    now = datetime.now(UTC)
    try:
        return life_ends_at(period, now) - now if period else None
    except ValueError as problem:
        raise bad_request(f"Invalid grace_period: {problem}", "grace_period") from None


async def _with_new_secret(
    key: VirtualKey,
    secret: str,
    fields: Mapping[str, Any],
    principal: Principal,
    *,
    grace: timedelta | None,
    version: int | None,
) -> VirtualKey:
    """One transaction: the fields that came along, the new hash, one audit row for each."""
    old, token = key.token, hash_key(secret)
    # What is still in the journal belongs to the row under its old hash.
    await services().ledger.flush()
    try:
        async with transaction():
            await check_unused(token, "new_key")
            if fields or version is not None:
                key = await change_key(key, fields, principal, version=version)
            key = await _rotated(key, token, key_name(secret), grace)
            after = {name: getattr(key, name) for name in ("token", "key_name", "rotation_count")}
            await record_change("rotated", KEYS, old, before={"token": old}, after=after)
    except DoesNotExist:
        raise Conflict("The key was regenerated or deleted meanwhile", param="key") from None
    except IntegrityError:
        raise Conflict("This key exists already", param="new_key") from None
    return key


async def _rotated(key: VirtualKey, token: str, name: str, grace: timedelta | None) -> VirtualKey:
    """Raises DoesNotExist when the old hash is gone, 409 when the row or its access groups never hold still."""
    for tries_left in reversed(range(_TRIES)):
        try:
            async with transaction():
                rotated = await rotate_key(key, token=token, key_name=name, grace=grace)
                row_written(key)
                row_written(rotated)
                return rotated
        except ChangedMeanwhile:
            if not tries_left:
                raise Conflict("The key is being changed by somebody else. Try again.", param="key") from None
            key = await VirtualKey.get(token=key.token)
    raise AssertionError("the last try raises")


@blueprint.post("/key/<path:key>/reset_spend")
@takes(body={"reset_to": money().required, **VERSION})
async def reset_spend(key: str) -> Answer:
    """Set the spend of a key back. For admins of the instance, the team or the organization, not for an owner."""
    principal = current_principal()
    sent = await read_body()
    if sent["reset_to"] is None:
        raise ValidationFailed([("reset_to", "This must be a number", "float_type")])
    await services().ledger.flush()
    row = await need_key(key)
    refuse_session(row)
    access = KeyAccess(principal)
    if not await access.administers(row) or (access.owns(row) and not principal.is_admin):
        raise refused("Only an admin of this instance or of the key's team may reset its spend, not its owner")
    if sent["reset_to"] > row.spend:
        raise bad_request(f"reset_to ({sent['reset_to']}) must not be above the key's spend ({row.spend})", "reset_to")
    previous = row.spend
    columns = {"spend": sent["reset_to"], "updated_by": principal.user_id}
    await change_row(row, columns, table=KEYS, object_id=row.token, version=expected_version(sent))
    shown = row.to_json()
    shown = {name: shown[name] for name in ("spend", "max_budget", "budget_reset_at")}
    return {"key_hash": row.token, "previous_spend": float(previous), **shown}
