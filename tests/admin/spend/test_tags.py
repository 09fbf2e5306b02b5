"""Tags over the management API: declared ones, and those that only traffic named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from quart import Quart

from app.models import DailyEntitySpend
from app.services import EXTENSION
from tests.admin.conftest import Caller

TODAY = datetime.now(UTC).date()


async def _tag(admin: Caller, name: str = "t1", **fields: Any) -> dict[str, Any]:
    answer = await admin.post("/tag/new", name=name, **fields)
    assert answer.status_code == 200, answer.text
    tag: dict[str, Any] = answer.json()["tag"]
    return tag


async def _traffic(instance: Quart, name: str, days_ago: int = 0, **columns: Any) -> None:
    with instance.extensions[EXTENSION].database.active():
        date = (TODAY - timedelta(days=days_ago)).isoformat()
        await DailyEntitySpend.create(kind="tag", entity_id=name, date=date, **{"api_key": "k", **columns})
        for entity_id in (name, ""):
            # The sums that the ledger keeps as well; counting them would count calls twice.
            await DailyEntitySpend.create(kind="tag", entity_id=entity_id, date=date, model=uuid4().hex, api_requests=9)


async def test_a_tag_is_made_read_changed_and_deleted(admin: Caller) -> None:
    tag = await _tag(admin, description="Team A", models=["configured-1", "gone"], max_budget=5)
    assert (tag["name"], tag["description"], tag["created_by"]) == ("t1", "Team A", "default_user_id")
    assert (tag["models"], tag["model_info"]) == (["configured-1", "gone"], {"configured-1": "sample-chat"})
    assert (tag["budget_id"].startswith("tag-"), tag["litellm_budget_table"]["max_budget"]) == (True, 5)
    tag = (await admin.post("/tag/update", name="t1", description=None)).json()["tag"]
    assert (tag["description"], tag["litellm_budget_table"]["max_budget"], len(tag["models"])) == (None, 5, 2)
    assert (await admin.post("/tag/info", names=["t1", "zz"])).json() == {"t1": tag}
    assert "t1" in (await admin.post("/tag/delete", name="t1")).json()["message"]
    assert (await admin.get("/tag/list")).json() == []
    assert (await admin.get("/budget/list")).json() == []


async def test_mistakes_have_their_own_status(admin: Caller) -> None:
    await _tag(admin)
    cases: list[tuple[str, dict[str, Any], int]] = [
        ("/tag/new", {"name": "t1"}, 400),
        ("/tag/new", {"name": " "}, 400),
        ("/tag/new", {}, 422),
        ("/tag/new", {"name": "t2", "budget_id": "zz"}, 404),
        ("/tag/new", {"name": "t2", "budget_duration": "5x"}, 400),
        ("/tag/update", {"name": "zz"}, 404),
        ("/tag/update", {"name": "t1", "description": "x", "version": 9}, 409),
        ("/tag/info", {"names": ["zz"]}, 404),
        ("/tag/delete", {"name": "zz"}, 404),
    ]
    for path, body, status in cases:
        assert (await admin.post(path, **body)).status_code == status, (path, body)
    assert (await admin.post("/tag/new", name="t1")).json() == {"detail": "Tag t1 already exists"}


async def test_tags_of_traffic_are_listed_after_the_declared_ones(admin: Caller, instance: Quart) -> None:
    await _tag(admin, "declared")
    for name, days_ago in (("declared", 0), ("seen", 0), ("seen", 1), ("long-ago", 60)):
        await _traffic(instance, name, days_ago)
    rows = (await admin.get("/tag/list")).json()
    assert [row["name"] for row in rows] == ["declared", "seen"]
    assert rows[1]["created_at"].startswith((TODAY - timedelta(days=1)).isoformat())
    assert rows[1]["description"]
    since = (TODAY - timedelta(days=90)).isoformat()
    rows = (await admin.get("/tag/list", start_date=since, end_date=TODAY.isoformat())).json()
    assert [row["name"] for row in rows] == ["declared", "long-ago", "seen"]
    # fixed date: too many days
    assert (await admin.get("/tag/list", start_date="2020-01-01", end_date="2026-01-01")).status_code == 400
    assert (await admin.get("/tag/list", start_date="yesterday")).status_code == 422


async def test_a_summary_has_totals_per_tag(admin: Caller, instance: Quart) -> None:
    counts = {"api_requests": 3, "successful_requests": 2, "failed_requests": 1, "prompt_tokens": 5}
    await _traffic(instance, "a", api_key="k1", spend=Decimal("0.1"), completion_tokens=1, **counts)
    await _traffic(instance, "a", 1, api_key="k2", spend=Decimal("0.2"))
    await _traffic(instance, "b")
    rows = (await admin.get("/tag/summary")).json()["results"]
    assert [row["tag"] for row in rows] == ["a", "b"]
    assert rows[0] == {
        "tag": "a",
        "unique_users": 2,
        "total_requests": 3,
        "successful_requests": 2,
        "failed_requests": 1,
        "total_tokens": 6,
        "total_spend": 0.3,
    }
    assert len((await admin.get("/tag/summary", tag_filter="b")).json()["results"]) == 1


async def test_who_may(admin: Caller, alice: Caller, vera: Caller) -> None:
    await _tag(admin)
    assert (await alice.post("/tag/new", name="t2")).status_code == 401
    assert (await vera.post("/tag/delete", name="t1")).status_code == 403
    assert (await alice.get("/tag/list")).status_code == 401
    assert (await vera.post("/tag/info", names=["t1"])).status_code == 200
