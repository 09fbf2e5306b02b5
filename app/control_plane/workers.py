"""The overview: every worker with its own deadline, what is wrong first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from quart import Blueprint, Response, abort, g, redirect, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from app.services import services

from .chart import spark
from .formatting import decimal
from .registry import Contact, Worker
from .rendering import fragment, page
from .session import open_client, public, signed_in
from .worker_client import Credential, Row, WorkerClient
from .worker_errors import ODD_ANSWER, SessionExpired, WorkerError, WorkerRefused, WorkerUnreachable
from .worker_http import TILE

blueprint = Blueprint("workers", __name__)
_TEMPLATE = "pages/workers.html"
_ERROR_SHARE, _ENOUGH_REQUESTS = Decimal("0.05"), 20


@dataclass
class Tile:
    """One worker, seen now. `state` is healthy, degraded or unreachable; figures are of today (UTC)."""

    worker: Worker
    contact: Contact
    state: str
    is_signed_in: bool
    answer_milliseconds: int | None = None
    has_figures: bool = False
    spend: Decimal = Decimal(0)
    requests: int = 0
    failed: int = 0
    days: list[tuple[str, int]] = field(default_factory=list)
    over_budget: list[Row] = field(default_factory=list)
    problems: list[dict[str, str]] = field(default_factory=list)
    taken_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def spark(self) -> Any:
        return spark([requests for _, requests in self.days])

    def add_problem(self, tone: str, text: str, **link: str) -> None:
        self.problems.append({"tone": tone, "text": text, **link})


@blueprint.get("/", strict_slashes=False)
@public
async def home() -> BaseResponse:
    return redirect(url_for("console.workers.overview"), 303)


@blueprint.get("/workers")
@signed_in
async def overview() -> Response:
    """The page at once, with a tile that loads by itself for each worker; without script `?full=1` waits for all."""
    tiles = await _all_tiles() if request.args.get("full") else None
    return await page(_TEMPLATE, tiles=tiles, environment=request.args.get("environment", ""), **_totals(tiles or []))


@blueprint.get("/workers/summary")
@signed_in
async def summary() -> Response:
    """Figures and "needs attention", over all workers that answer in time."""
    tiles = await _all_tiles()
    return await fragment(_TEMPLATE, "summary", tiles=tiles, **_totals(tiles))


@blueprint.get("/workers/<worker_id>/tile")
@signed_in
async def tile(worker_id: str) -> Response:
    worker = services().registry.get(worker_id)
    if worker is None:
        abort(404, description="worker")
    return await fragment(_TEMPLATE, "tile", tile=await look(worker))


@blueprint.get("/workers/<worker_id>")
@signed_in
async def open_worker(worker_id: str) -> BaseResponse:
    return redirect(url_for("console.keys.list_keys", worker_id=worker_id), 303)


async def _all_tiles() -> list[Tile]:
    return list(await asyncio.gather(*(look(worker) for worker in services().registry.workers)))


def _totals(tiles: list[Tile]) -> dict[str, Any]:
    """The strip, and all problems: danger first."""
    problems = [(tile.worker, problem) for tile in tiles for problem in tile.problems]
    known = [tile for tile in tiles if tile.has_figures]
    return {
        "attention": sorted(problems, key=lambda row: row[1]["tone"] != "danger"),
        "unreachable": sum(tile.state == "unreachable" for tile in tiles),
        "degraded": sum(tile.state == "degraded" for tile in tiles),
        "known": len(known),
        "spend": sum((tile.spend for tile in known), Decimal(0)),
        "requests": sum(tile.requests for tile in known),
        "failed": sum(tile.failed for tile in known),
        "over_budget": sum(len(tile.over_budget) for tile in known),
        "taken_at": datetime.now(UTC),
    }


async def look(worker: Worker) -> Tile:
    """Never slower than the tile deadline, never raises for a worker that is away or talks nonsense."""
    credential = g.session.credential(worker)
    client = open_client(worker, credential)
    contact = client.connection.contact
    figures = asyncio.create_task(_figures(client, credential))
    tile = Tile(worker, contact, "healthy", credential is not None)
    try:
        await client.readiness()
        tile.answer_milliseconds = contact.last_milliseconds
    except WorkerUnreachable as error:
        tile.state = "unreachable"
        tile.add_problem("danger", f"Does not answer: {error.message}", label="Open")
    except WorkerRefused as error:
        tile.state = "degraded"
        tile.add_problem("warn", f"Answers {error.status} to a health check: {error.message}", label="Open")
    except ODD_ANSWER:
        _add_odd_answer(tile, "a health check")
    try:
        read = await figures
        if tile.state != "unreachable" and read is not None:
            _add_figures(tile, *read)
    except ODD_ANSWER:
        tile.has_figures = False
        _add_odd_answer(tile, "a question about its spend")
    return tile


def _add_odd_answer(tile: Tile, question: str) -> None:
    tile.state = "degraded"
    tile.add_problem("warn", f"Answers {question} with something that the console cannot read", label="Open")


async def _figures(client: WorkerClient, credential: Credential | None) -> tuple[list[Row], list[Row]] | None:
    """(days with traffic of the last seven, most expensive keys); None when it may not or cannot be read now."""
    if credential is None:
        return None
    try:
        days, keys = await asyncio.gather(
            client.daily_activity(days=7, total=TILE),
            client.list_keys(size=100, sort_by="spend", sort_order="desc", total=TILE),
        )
    except SessionExpired:
        await g.session.forget(client.worker)
        return None
    except WorkerError:
        return None
    return days, list(keys.get("keys") or [])


def _add_figures(tile: Tile, days: list[Row], keys: list[Row]) -> None:
    now = datetime.now(UTC)
    tile.has_figures = True
    by_date = {str(row["date"]): row["metrics"] for row in days}
    week = [(now - timedelta(days=age)).date().isoformat() for age in range(6, -1, -1)]
    tile.days = [(day, int(by_date.get(day, {}).get("api_requests") or 0)) for day in week]
    metrics = by_date.get(week[-1], {})
    tile.spend = decimal(metrics.get("spend"))
    tile.requests = int(metrics.get("api_requests") or 0)
    tile.failed = int(metrics.get("failed_requests") or 0)
    if tile.requests >= _ENOUGH_REQUESTS and tile.failed >= tile.requests * _ERROR_SHARE:
        tile.state = "degraded"
        share = tile.failed * 100 / tile.requests
        tile.add_problem(
            "warn", f"{share:.1f}% of today's requests failed ({tile.failed} of {tile.requests})", to="spend"
        )
    tile.over_budget = [key for key in keys if _is_over_budget(key)]
    for key in tile.over_budget[:3]:
        name = key.get("key_alias") or key.get("key_name") or "without alias"
        text = f"Key {name} has spent its budget; its calls are refused"
        tile.add_problem("warn", text, label="Key", key=str(key.get("token") or ""))


def _is_over_budget(key: Row) -> bool:
    return key.get("max_budget") is not None and decimal(key.get("spend")) >= decimal(key["max_budget"])
