"""Who may do what with a team: the rules that no single route owns."""

from __future__ import annotations

import pytest

from app.admin.teams.access import (
    TeamPermissions,
    check_may_place,
    edit_access,
    editable_part,
    is_granted,
    permissions_over,
)
from app.auth.principal import Principal
from app.auth.roles import Role
from app.errors import Forbidden
from app.models import Team


@pytest.mark.parametrize(
    ("model", "granted", "expected"),
    [
        ("a", [], True),
        ("a", ["a"], True),
        ("a", ["b"], False),
        ("openai/x", ["openai/*"], True),
        ("azure/x", ["openai/*"], False),
        ("a", ["all-proxy-models"], True),
        ("a", ["*"], True),
        ("all-proxy-models", ["a"], False),
        ("no-default-models", ["a"], True),
    ],
)
def test_a_model_is_granted_by_name_or_wildcard(model: str, granted: list[str], expected: bool) -> None:
    assert is_granted(model, granted) is expected


async def test_admins_have_power_over_every_team_and_organization_admins_over_theirs() -> None:
    team, alone = Team(team_id="t", organization_id="acme"), Team(team_id="alone")
    admin = Principal(role=Role.PROXY_ADMIN, key_hash="h")
    olga = Principal(role=Role.INTERNAL_USER, key_hash="h", organizations=("acme",))
    holder = Principal(role=Role.KEY_ONLY, key_hash="h", team_id="t")
    assert [await permissions_over(caller, team) for caller in (admin, olga, holder)] == [
        TeamPermissions.UNRESTRICTED,
        TeamPermissions.UNRESTRICTED,
        TeamPermissions.MEMBER,
    ]
    assert [await permissions_over(caller, alone) for caller in (admin, olga, holder)] == [
        TeamPermissions.UNRESTRICTED,
        TeamPermissions.NONE,
        TeamPermissions.NONE,
    ]


def test_an_unchanged_field_is_no_change() -> None:
    team = Team(team_id="t", models=["a"], metadata={"tags": ["x"]}, tpm_limit=0, blocked=False)
    sent = {"team_alias": "Ours", "models": ["a"], "tags": ["x"], "tpm_limit": 0, "rpm_limit": None, "blocked": False}
    assert editable_part(sent, team) == {"team_alias": "Ours"}
    for name, value in (("models", []), ("tags", []), ("tpm_limit", None), ("rpm_limit", 0), ("blocked", True)):
        with pytest.raises(Forbidden, match=name):
            editable_part({name: value}, team)


def test_teams_move_between_own_organizations_only() -> None:
    olga = Principal(role=Role.INTERNAL_USER, key_hash="h", organizations=("acme", "ours"))
    check_may_place(olga, "acme")
    check_may_place(olga, "ours", "acme")
    check_may_place(olga, "foreign", "foreign")
    for wanted, before in (("foreign", None), (None, "acme"), ("acme", "foreign")):
        with pytest.raises(Forbidden):
            check_may_place(olga, wanted, before)


def test_what_a_page_may_offer_to_edit() -> None:
    assert edit_access(TeamPermissions.UNRESTRICTED) == {"kind": "unrestricted"}
    assert "team_alias" in edit_access(TeamPermissions.TEAM_ADMIN)["editable_fields"]
    assert {
        edit_access(power)["kind"] for power in (TeamPermissions.NONE, TeamPermissions.MEMBER, TeamPermissions.READER)
    } == {"none"}
