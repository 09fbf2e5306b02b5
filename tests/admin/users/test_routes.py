"""Users over the management API."""

from __future__ import annotations

from quart import Quart

from app.models import ConfigEntry, OrganizationMembership, User
from app.security.credentials import verify_password
from app.services import EXTENSION
from tests.admin.conftest import Caller
from tests.admin.org_cast import organization


async def test_a_new_user_gets_a_key(admin: Caller) -> None:
    answer = await admin.post(
        "/user/new", user_email="Ada@Acme.Example", user_role="internal_user", max_budget=2, rpm_limit=3
    )
    assert answer.status_code == 200, answer.text
    user = answer.json()
    assert user["key"].startswith("sk-")
    assert (user["user_email"], user["user_role"], user["max_budget"]) == ("ada@acme.example", "internal_user", 2)
    key = await admin.info(user["key"])
    assert (key["user_id"], key["max_budget"], key["rpm_limit"]) == (user["user_id"], None, None)


async def test_a_user_without_a_key(admin: Caller) -> None:
    user = (await admin.post("/user/new", user_id="u1", auto_create_key=False)).json()
    assert (user["key"], user["token"]) == ("", None)
    assert (await admin.get("/key/list", user_id="u1")).json()["total_count"] == 0


async def test_a_user_is_there_once(admin: Caller) -> None:
    await admin.post("/user/new", user_id="u1", user_email="a@acme.example")
    assert (await admin.post("/user/new", user_id="u1")).status_code == 409
    assert (await admin.post("/user/new", user_email="A@acme.example")).status_code == 409
    assert (await admin.get("/user/list")).json()["total"] == 1


async def test_nothing_is_left_when_the_key_is_refused(admin: Caller) -> None:
    await admin.new_key(key_alias="taken")
    assert (await admin.post("/user/new", user_id="u1", key_alias="taken")).status_code == 400
    assert (await admin.get("/user/info", user_id="u1")).status_code == 404


async def test_a_wrong_user_is_refused(admin: Caller) -> None:
    cases: list[tuple[dict[str, object], int]] = [
        ({"user_role": "emperor"}, 422),
        ({"password": "secret"}, 422),
        ({"teams": [5]}, 422),
        ({"teams": ["nobody"]}, 400),
        ({"max_budget": -1}, 400),
        ({"budget_duration": "5x"}, 400),
        ({"duration": "5x"}, 400),
    ]
    for body, status in cases:
        assert (await admin.post("/user/new", user_id="u1", **body)).status_code == status
        assert (await admin.get("/user/info", user_id="u1")).status_code == 404


async def test_a_user_with_teams_and_keys(admin: Caller) -> None:
    team = (await admin.post("/team/new", team_alias="Team")).json()["team_id"]
    user = (await admin.post("/user/new", user_id="u1", teams=[{"team_id": team}])).json()
    assert user["teams"] == [team]
    await admin.new_key(user_id="u1", team_id=team, key_alias="of the team")
    info = (await admin.get("/user/info", user_id="u1")).json()
    assert (info["user_id"], info["user_info"]["teams"]) == ("u1", [team])
    assert {key["key_alias"]: key["team_alias"] for key in info["keys"]} == {"of the team": "Team", None: None}
    assert [row["team_alias"] for row in info["teams"]] == ["Team"]
    flat = (await admin.get("/v2/user/info", user_id="u1")).json()
    assert (flat["user_id"], flat["teams"], flat["spend"]) == ("u1", [team], 0)
    assert "password" not in flat


async def test_users_see_themselves(admin: Caller, alice: Caller, bob: Caller) -> None:
    assert (await alice.get("/user/info")).json()["user_id"] == "alice"
    assert (await alice.get("/v2/user/info")).json()["user_email"] == "alice@acme.example"
    assert (await alice.get("/user/info", user_id="bob")).status_code == 403
    assert (await alice.get("/v2/user/info", user_id="bob")).status_code == 403
    refusal = await alice.get("/user/list")
    assert (refusal.status_code, list(refusal.json())) == (403, ["detail"])


async def test_unknown_users_are_404(admin: Caller) -> None:
    answer = await admin.get("/user/info", user_id="zzz")
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, "User zzz not found")
    answer = await admin.get("/v2/user/info", user_id="zzz")
    assert (answer.status_code, answer.json()) == (404, {"detail": "User not found: zzz"})
    assert (await admin.post("/user/update", user_id="zzz", user_alias="Z")).status_code == 404
    assert (await admin.post("/user/update", user_alias="Z")).status_code == 422
    assert (await admin.post("/user/delete", user_ids=["zzz"])).status_code == 404


async def test_the_built_in_admin_needs_no_row(admin: Caller) -> None:
    flat = (await admin.get("/v2/user/info")).json()
    assert (flat["user_id"], flat["user_role"], flat["teams"]) == ("default_user_id", "proxy_admin", [])


async def test_users_are_listed_in_pages(admin: Caller) -> None:
    for name in ("ann", "ben", "cem"):
        await admin.post("/user/new", user_id=name, user_email=f"{name}@acme.example", user_role="internal_user")
    page = (await admin.get("/user/list", page_size=2, sort_by="user_id", sort_order="asc")).json()
    assert [(user["user_id"], user["key_count"]) for user in page["users"]] == [("ann", 1), ("ben", 1)]
    assert (page["total"], page["page"], page["page_size"], page["total_pages"]) == (3, 1, 2, 2)
    assert "password" not in page["users"][0]
    assert (await admin.get("/user/list", user_email="BEN@")).json()["total"] == 1
    assert (await admin.get("/user/list", search="acme")).json()["total"] == 3
    assert (await admin.get("/user/list", user_ids="ann,cem")).json()["total"] == 2
    assert (await admin.get("/user/list", role="proxy_admin")).json()["total"] == 0
    answer = await admin.get("/user/list", sort_by="password")
    assert (answer.status_code, "error" in answer.json()["detail"]) == (400, True)


async def test_only_what_is_sent_changes(admin: Caller, instance: Quart) -> None:
    await admin.post("/user/new", user_id="u1", user_email="a@acme.example", max_budget=2, metadata={"a": 1})
    answer = await admin.post("/user/update", user_id="u1", max_budget=None, password="correct horse battery")
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert (data["max_budget"], data["metadata"], data["user_email"]) == (None, {"a": 1}, "a@acme.example")
    assert "horse" not in answer.text
    assert "password" not in data
    with instance.extensions[EXTENSION].database.active():
        stored = await User.get(user_id="u1")
    assert verify_password("correct horse battery", stored.password)
    assert (await admin.post("/user/update", user_email="A@acme.example", user_alias="Ada")).json()["data"][
        "user_alias"
    ] == "Ada"


async def test_an_address_cannot_be_taken_over(admin: Caller) -> None:
    await admin.post("/user/new", user_id="u1", user_email="one@acme.example")
    await admin.post("/user/new", user_id="u2", user_email="two@acme.example")
    assert (await admin.post("/user/update", user_id="u2", user_email="ONE@acme.example")).status_code == 409


async def test_a_role_holds_from_the_next_call_on(admin: Caller, alice: Caller) -> None:
    assert (await alice.get("/user/list")).status_code == 403
    await admin.post("/user/update", user_id="alice", user_role="proxy_admin_viewer")
    assert (await alice.get("/user/list")).status_code == 200


async def test_deleting_a_user_takes_keys_and_memberships(admin: Caller, alice: Caller) -> None:
    team = (await admin.post("/team/new", members_with_roles=[{"user_id": "alice", "role": "user"}])).json()["team_id"]
    assert (await alice.get("/key/info")).status_code == 200
    answer = await admin.post("/user/delete", user_ids=["alice", "alice"])
    assert (answer.status_code, answer.json()) == (200, 1)
    assert (await alice.get("/key/info")).status_code == 401
    members = (await admin.get("/team/info", team_id=team)).json()["team_info"]["members_with_roles"]
    assert [member["user_id"] for member in members] == ["default_user_id"]
    assert (await admin.post("/user/delete", user_ids=[])).json() == 0


async def test_defaults_of_new_users_come_from_the_configuration(admin: Caller, instance: Quart) -> None:
    await admin.post("/team/new", team_id="everybody")
    defaults = {"user_role": "internal_user", "max_budget": 5, "budget_duration": "30d", "teams": ["everybody"]}
    with instance.extensions[EXTENSION].database.active():
        await ConfigEntry.create(param_name="litellm_settings", param_value={"default_internal_user_params": defaults})
    user = (await admin.post("/user/new", user_id="u1")).json()
    assert (user["user_role"], user["max_budget"], user["teams"]) == ("internal_user", 5, ["everybody"])
    user = (await admin.post("/user/new", user_id="u2", max_budget=None, teams=[])).json()
    assert (user["max_budget"], user["teams"], user["budget_duration"]) == (None, [], "30d")
    root = (await admin.post("/user/new", user_id="root", user_role="proxy_admin")).json()
    assert (root["max_budget"], root["teams"]) == (None, [])


async def test_deleting_a_user_ends_memberships_of_organizations(admin: Caller, alice: Caller, instance: Quart) -> None:
    await organization(instance, "acme", alice="org_admin")
    assert (await admin.post("/user/delete", user_ids=["alice"])).status_code == 200
    with instance.extensions[EXTENSION].database.active():
        assert not await OrganizationMembership.exists(user_id="alice")


async def test_the_second_of_two_admins_is_told(admin: Caller, alice: Caller) -> None:
    version = (await admin.get("/v2/user/info", user_id="alice")).json()["version"]
    assert (await admin.post("/user/update", user_id="alice", rpm_limit=1, version=version)).status_code == 200
    assert (await admin.post("/user/update", user_id="alice", rpm_limit=2, version=version)).status_code == 409


async def test_nobody_changes_their_own_user(alice: Caller) -> None:
    assert (await alice.post("/user/update", user_id="alice", user_alias="A")).status_code == 401


async def test_roles_have_names(alice: Caller) -> None:
    roles = (await alice.get("/user/available_roles")).json()
    assert set(roles) == {"proxy_admin", "proxy_admin_viewer", "internal_user", "internal_user_viewer"}
    assert all(set(role) == {"description", "ui_label"} for role in roles.values())
