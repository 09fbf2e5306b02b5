"""The first period of every budget ends on the calendar of the instance, like all that follow."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.settings import Settings
from tests.admin.conftest import MODEL_LIST, Caller
from tests.conftest import MASTER_KEY

ZONE = ZoneInfo("Asia/Kolkata")  # never UTC's midnight, in any season
DAY: dict[str, Any] = {"max_budget": 5, "budget_duration": "1d"}


@pytest.fixture
def settings(migrated_sqlite_url: str, tmp_path: Path) -> Settings:
    return replace(
        Settings(
            master_key=MASTER_KEY,
            database_url=migrated_sqlite_url,
            state_dir=tmp_path / "state",
            model_list=MODEL_LIST,
            permit_weak_master_key=True,
        ),
        budget_zone=ZONE,
    )


def check(reset_at: str) -> None:
    moment = datetime.fromisoformat(reset_at)
    assert moment.astimezone(ZONE).time().isoformat() == "00:00:00", reset_at
    assert timedelta(0) < moment - datetime.now(UTC) <= timedelta(days=1)


async def made(admin: Caller, path: str, **body: Any) -> dict[str, Any]:
    answer = await admin.post(path, **body)
    assert answer.status_code == 200, answer.text
    row: dict[str, Any] = answer.json()
    return row


async def stored(admin: Caller, path: str, **query: Any) -> Any:
    answer = await admin.get(path, **query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_keys(admin: Caller) -> None:
    limits = [{"budget_duration": "1d", "max_budget": 2}]
    row = await made(admin, "/key/generate", **DAY, budget_limits=limits)
    check(row["budget_reset_at"])
    check(row["budget_limits"][0]["reset_at"])
    plain = await made(admin, "/key/generate")
    await made(admin, "/key/update", key=plain["key"], **DAY, budget_limits=limits)
    info = await admin.info(plain["key"])
    check(info["budget_reset_at"])
    check(info["budget_limits"][0]["reset_at"])


async def test_users_and_budgets(admin: Caller) -> None:
    await made(admin, "/user/new", user_id="u", **DAY)
    check((await stored(admin, "/user/info", user_id="u"))["user_info"]["budget_reset_at"])
    check((await made(admin, "/budget/new", budget_id="b", **DAY))["budget_reset_at"])
    await made(admin, "/key/generate", key_alias="shares", budget_id="b")


async def test_teams_and_their_members(admin: Caller) -> None:
    limits = [{"budget_duration": "1d", "max_budget": 2}]
    team = await made(
        admin,
        "/team/new",
        team_alias="t",
        **DAY,
        budget_limits=limits,
        team_member_budget=1,
        team_member_budget_duration="1d",
    )
    check(team["budget_reset_at"])
    check(team["budget_limits"][0]["reset_at"])
    await made(admin, "/user/new", user_id="u")
    await made(admin, "/team/member_add", team_id=team["team_id"], member={"role": "user", "user_id": "u"})
    info = await stored(admin, "/team/info", team_id=team["team_id"])
    check(
        next(row for row in info["team_memberships"] if row["user_id"] == "u")["litellm_budget_table"][
            "budget_reset_at"
        ]
    )


async def test_customers_tags_and_organizations(admin: Caller) -> None:
    customer = await made(admin, "/customer/new", user_id="c", **DAY)
    check(customer["litellm_budget_table"]["budget_reset_at"])
    await made(admin, "/tag/new", name="g", **DAY)
    tags = await made(admin, "/tag/info", names=["g"])
    check(tags["g"]["litellm_budget_table"]["budget_reset_at"])
    organization = await made(admin, "/organization/new", organization_alias="o", **DAY)
    info = await stored(admin, "/organization/info", organization_id=organization["organization_id"])
    check(info["litellm_budget_table"]["budget_reset_at"])
