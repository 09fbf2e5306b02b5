"""Setting what all keys and teams have spent back to zero. For the master key alone."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from quart import Blueprint
from tortoise.expressions import F

from ..models import Team, VirtualKey
from ..services import services
from .activity_figures import Answer
from .audit_trail import KEYS, TEAMS, record_change

blueprint = Blueprint("admin_spend_reset", __name__)

_BATCH = 1000
_EVERYTHING = "*"


@blueprint.post("/global/spend/reset")
async def reset_spend() -> Answer:
    """Zero the spend of every key and team, in batches; totals of days and `total_spend` stay.

    Spend that is still on its way to the database is written first, so that it does not come back afterwards.
    """
    await services().ledger.flush()
    keys = await _reset(VirtualKey, "token", KEYS)
    teams = await _reset(Team, "team_id", TEAMS)
    services().keys.forget_all()
    return {
        "message": "Spend for all API Keys and Teams reset successfully",
        "status": "success",
        "keys": keys,
        "teams": teams,
    }


async def _reset(model: type[VirtualKey] | type[Team], unique: str, table: str) -> int:
    """One transaction and one audit row for each batch; answers how many rows had spent anything."""
    number, after = 0, ""
    while True:
        ids: Sequence[str] = await _next_ids(model, unique, after)
        if not ids:
            return number
        async with services().database.transaction():
            rows = model.filter(**{f"{unique}__in": ids})
            await rows.update(spend=Decimal(0), spend_epoch=F("spend_epoch") + 1, version=F("version") + 1)
            await record_change("updated", table, _EVERYTHING, after={"spend": 0, "from": ids[0], "to": ids[-1]})
        number, after = number + len(ids), ids[-1]


async def _next_ids(model: type[VirtualKey] | type[Team], unique: str, after: str) -> list[str]:
    query = model.filter(**{f"{unique}__gt": after}).exclude(spend=Decimal(0)).order_by(unique).limit(_BATCH)
    return [str(row[unique]) for row in await query.values(unique)]
