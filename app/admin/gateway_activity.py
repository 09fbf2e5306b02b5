"""How many calls the gateway served: per day and per route. For admins and viewers."""

from __future__ import annotations

from collections import defaultdict

from quart import Blueprint

from ..web.fields import Table, read_query, takes
from .activity_figures import Answer
from .global_spend import asked_days, instance_rows
from .spend_scope import day, sums

blueprint = Blueprint("admin_gateway_activity", __name__)

_RANGE: Table = {"start_date": day(), "end_date": day()}
_NAMES = ("successful_requests", "failed_requests")


@blueprint.get("/gateway/daily/activity")
@takes(query=_RANGE)
async def gateway_activity() -> Answer:
    """Calls to models that succeeded and failed; management calls are not counted."""
    select = "date, endpoint, SUM(successful_requests) AS successful_requests, SUM(failed_requests) AS failed_requests"
    where = instance_rows(asked_days(read_query()))
    rows = await sums(select, where, "GROUP BY date, endpoint ORDER BY date, endpoint", table="daily_entity_spend")
    per_day, per_route = _counted(rows, "date"), _counted(rows, "endpoint")
    return {
        "total_successful_requests": sum(entry["successful_requests"] for entry in per_day.values()),
        "total_failed_requests": sum(entry["failed_requests"] for entry in per_day.values()),
        "by_date": [{"date": name, **counts} for name, counts in per_day.items()],
        "by_route": [{"category": "llm", "route": name, **counts} for name, counts in per_route.items()],
    }


def _counted(rows: list[Answer], column: str) -> dict[str, dict[str, int]]:
    found: defaultdict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(_NAMES, 0))
    for row in rows:
        for name in _NAMES:
            found[row[column]][name] += int(row[name] or 0)
    return found
