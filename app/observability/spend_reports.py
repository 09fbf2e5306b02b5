"""Reports of spend by schedule (`spend_report_frequency`), sent as alerts are. One process of all sends each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

import structlog

from ..storage.database import DATABASE_AWAY, DATABASE_REFUSED
from .alerts import REPORT, Alert

if TYPE_CHECKING:
    from ..spend.periodic_report import Amounts, SpendReport

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 600.0
_SHOWN = 3


class SpendSource(Protocol):
    async def due(self, days: int, today: date) -> SpendReport | None:
        """The next report, when it is time and nobody else has it. Raises what the database raises."""


async def report_forever(
    source: SpendSource,
    days: int,
    send: Callable[[Alert], None],
    *,
    today: Callable[[], date] = lambda: datetime.now(UTC).date(),
    look: float = _LOOK_SECONDS,
) -> None:
    """Look now and every `look` seconds; hand each report to `send`, which must not wait."""
    while True:
        try:
            report = await source.due(days, today())
            if report is not None:
                send(alert_of(report))
        except (*DATABASE_AWAY, *DATABASE_REFUSED) as problem:
            log.warning("the report of spend waits", reason=type(problem).__name__)
        except Exception as problem:  # noqa: BLE001 - a bug of ours must not end the reports for good
            log.error("the report of spend failed", reason=type(problem).__name__)
        await asyncio.sleep(look)


def alert_of(report: SpendReport) -> Alert:
    """A report in a sentence, and as the JSON of a webhook."""
    days = f"{report.first}" if report.first == report.last else f"{report.first} to {report.last}"
    message = f"Spend of {days} (UTC): ${_usd(report.total)} for {report.requests} calls"
    for word, amounts in (("models", report.models), ("teams", report.teams)):
        if amounts:
            message += f"; {word}: " + ", ".join(f"{name[:100]} ${_usd(spend)}" for name, spend in amounts[:_SHOWN])
    fields = {
        "event": REPORT,
        "event_group": "proxy",
        "event_message": message,
        "start_date": report.first.isoformat(),
        "end_date": report.last.isoformat(),
        "spend": float(report.total),
        "requests": report.requests,
        "models": _rows("model", report.models),
        "teams": _rows("team", report.teams),
    }
    return Alert(REPORT, message, fields)


def _rows(word: str, amounts: Amounts) -> list[dict[str, object]]:
    return [{word: name, "spend": float(spend)} for name, spend in amounts]


def _usd(amount: Decimal) -> str:
    return f"{amount:.2f}"
