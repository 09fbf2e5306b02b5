"""What one worker spent, by day, model and key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from .console_app import Console, text_of
from .contract_worker import ContractWorker

EU = "/ui/workers/eu"


async def test_spend_by_day_model_and_key(console: Console, eu: ContractWorker) -> None:
    key = eu.add_key("checkout")
    today = datetime.now(UTC).date()
    eu.add_day(today.isoformat(), {"chat-small": 1.5, "embed-small": 0.0005}, requests=1200, failed=12)
    eu.add_day((today - timedelta(days=9)).isoformat(), {"chat-small": 2.0})
    client = await console.signed_in("eu")
    page = await text_of(client, f"{EU}/spend")
    assert "$3.50" in page and "1,200" in page and "$0.000500" in page and "so far" in page
    page = await text_of(client, f"{EU}/spend?days=7&by=key")
    assert "checkout" in page and f"{EU}/keys/{key['token']}" in page and "$1.50" in page and "$3.50" not in page
    fragment = await text_of(client, f"{EU}/spend?days=7", **{"HX-Target": "spend", "HX-Request": "true"})
    assert fragment.strip().startswith('<div id="spend"')


async def test_no_traffic_is_not_an_error(console: Console) -> None:
    assert "No requests in the last 30 days" in await text_of(
        await console.signed_in("eu"), f"{EU}/spend?days=zzz&by=zzz"
    )
