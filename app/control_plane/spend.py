"""Spend of one worker: totals, by day, by model, by key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from quart import Blueprint, Response, request

from .activity import GROUPS, daily_chart
from .rendering import fragment, is_asking_for, page
from .session import requires_worker_session
from .worker_client import WorkerClient

blueprint = Blueprint("spend", __name__, url_prefix="/workers/<worker_id>/spend")
_TEMPLATE = "pages/spend.html"
RANGES = {"7": 7, "30": 30}


@blueprint.get("")
@requires_worker_session
async def show_spend(client: WorkerClient) -> Response:
    days = RANGES.get(request.args.get("days", ""), 30)
    group = request.args.get("by", "model")
    group = group if group in GROUPS else "model"
    now = datetime.now(UTC)
    rows = await client.daily_activity(days=days, today=now.date())
    activity = daily_chart(rows, days=days, group=group, today=now.date())
    context: dict[str, Any] = {"activity": activity, "days": days, "group": group, "ranges": RANGES, "taken_at": now}
    if is_asking_for("spend"):
        return await fragment(_TEMPLATE, "figures", **context)
    return await page(_TEMPLATE, **context)
