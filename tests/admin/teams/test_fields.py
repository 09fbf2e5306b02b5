"""Which columns the fields of a team become."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from app.admin.teams.fields import MEMBER_PERMISSIONS, check_permissions, merge_patch, plain, team_columns
from app.errors import InvalidRequest
from app.models import Team

# From RFC 7396, appendix A.
_MERGES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("stored", "patch", "merged"), _MERGES)
def test_a_patch_is_merged_as_the_standard_says(stored: Any, patch: Any, merged: Any) -> None:
    assert merge_patch(stored, patch) == merged


def test_only_what_is_sent_becomes_a_column() -> None:
    assert team_columns({}) == {}
    assert team_columns({"tpm_limit": None, "version": 3}) == {"tpm_limit": None}
    assert team_columns({"budget_duration": None}) == {"budget_duration": None, "budget_reset_at": None}


def test_metadata_that_the_api_keeps_for_itself_stay() -> None:
    team = Team(team_id="t", metadata={"team_member_budget_id": "b", "logging": [], "tags": ["x"], "a": 1})
    sent = {"metadata": {"team_member_budget_id": "stolen", "c": 2}}
    retained = {"team_member_budget_id": "b", "logging": []}
    assert team_columns(sent, team)["metadata"] == {"c": 2, **retained}
    assert team_columns(sent, team, is_merge=True)["metadata"] == {"tags": ["x"], "a": 1, "c": 2, **retained}
    assert team_columns(sent, team, is_restricted=True)["metadata"] == {"c": 2, "tags": ["x"], **retained}
    assert team_columns({"metadata": None}, team, is_merge=True)["metadata"] == retained
    assert team_columns({"tags": None}, team)["metadata"] == {"a": 1, **retained}


def test_a_soft_budget_is_lower_than_the_ceiling() -> None:
    team = Team(team_id="t", metadata={}, max_budget=Decimal(5))
    with pytest.raises(InvalidRequest, match="must be lower"):
        team_columns({"soft_budget": Decimal(5)}, team)
    assert team_columns({"soft_budget": Decimal(5), "max_budget": None}, team)["max_budget"] is None


def test_permissions_are_those_that_there_are() -> None:
    check_permissions(MEMBER_PERMISSIONS)
    with pytest.raises(InvalidRequest, match="is no permission"):
        check_permissions(["/nonsense"])


def test_numbers_are_written_plainly() -> None:
    assert [plain(number) for number in (5, Decimal("5.000000"), Decimal("1E+2"), Decimal("0.10"))] == [
        "5",
        "5",
        "100",
        "0.1",
    ]
