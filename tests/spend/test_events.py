"""Whose totals a call adds to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from app.spend.events import SpendEvent, SpendWindow
from app.spend.scopes import member_id
from tests.spend.ledgers import KEY_HASH, NOON, event

TEAM_PRICED = {"is_team_priced": True}
ALICE = [("key", KEY_HASH), ("user", "alice"), ("team", "research"), ("member", member_id("research", "alice"))]


@pytest.mark.parametrize(
    ("fields", "scopes"),
    [
        ({}, ALICE),
        ({"user_id": None}, [ALICE[0], ALICE[2]]),
        ({"team_id": None}, ALICE[:2]),
        ({"is_session": True}, ALICE[:2]),
        ({"organization_id": "acme"}, [*ALICE, ("organization", "acme")]),
        ({"end_user": "customer"}, [*ALICE, ("end_user", "customer")]),
        ({"tags": ["b", "a", "b", ""]}, [*ALICE, ("tag", "b"), ("tag", "a")]),
        ({"access_groups": ["fast", "fast"]}, [*ALICE, ("access_group", "fast")]),
        ({"organization_id": "acme", "end_user": "c", "tags": ["a"], "access_groups": ["g"], **TEAM_PRICED}, ALICE),
    ],
)
def test_a_call_adds_to_each_scope_once(fields: dict[str, Any], scopes: list[tuple[str, str]]) -> None:
    assert list(event(**fields).scopes()) == scopes


def test_tags_are_counted_up_to_fifty_and_cut_to_their_column() -> None:
    assert event(tags=[str(number) for number in range(60)]).distinct_tags() == [str(number) for number in range(50)]
    assert event(tags=["x" * 300, "x" * 255]).distinct_tags() == ["x" * 255]


def test_an_event_comes_back_from_the_journal_as_it_was() -> None:
    sent = event(
        organization_id="acme",
        is_cache_hit=True,
        cache_key="k",
        access_groups=["fast"],
        windows=[SpendWindow("team", "research", "gpt-4o", "1d", NOON)],
    )
    assert msgspec.json.decode(msgspec.json.encode(sent), type=SpendEvent) == sent


def test_a_line_of_an_older_version_is_read() -> None:
    line = (  # fixed date: it is only read
        b'{"request_id":"r","call_type":"c","endpoint":"/e","start_time":"2026-11-21T12:00:00Z",'
        b'"end_time":"2026-11-21T12:00:01Z","cost":"0.1","key_hash":"k"}'
    )
    assert list(msgspec.json.decode(line, type=SpendEvent).scopes()) == [("key", "k")]
