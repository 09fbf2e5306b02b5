"""Spend of one worker: totals, by day, by model, by key."""

from __future__ import annotations

from datetime import UTC, datetime

from quart import Blueprint, Response, request

from .activity import GROUPS, daily_chart
from .blocks import Block, Context, Page
from .session import requires_worker_session
from .worker_client import WorkerClient

blueprint = Blueprint("spend", __name__, url_prefix="/workers/<worker_id>/spend")
RANGES = {"7": 7, "30": 30}


async def _read_figures(client: WorkerClient) -> Context:
    days = RANGES.get(request.args.get("days", ""), 30)
    group = request.args.get("by", "model")
    group = group if group in GROUPS else "model"
    now = datetime.now(UTC)
    rows = await client.daily_activity(days=days, today=now.date())
    activity = daily_chart(rows, days=days, group=group, today=now.date())
    return {"activity": activity, "days": days, "group": group, "ranges": RANGES, "taken_at": now}


_PAGE = Page("pages/spend.html", blocks=(Block("spend", "figures", (_read_figures,)),))


@blueprint.get("")
@requires_worker_session
async def show_spend(client: WorkerClient) -> Response:
    return await _PAGE.show(client)
