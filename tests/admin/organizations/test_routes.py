"""Organizations: they hold teams and members, and bound them."""

from __future__ import annotations

from quart import Quart

from app.models import AuditLog, Budget, DeletedTeam, DeletedVirtualKey, OrganizationMembership, User
from tests.admin.conftest import Caller
from tests.admin.organization_cast import database_of, new_organization, new_team, organization_admin, send


async def test_a_new_organization_has_a_budget_of_its_own(admin: Caller) -> None:
    answer = await admin.post(
        "/organization/new",
        organization_alias="Acme",
        models=["sample-chat"],
        max_budget=10,
        budget_duration="1d",
        metadata={"a": 1},
        model_rpm_limit={"sample-chat": 5},
    )
    assert answer.status_code == 200, answer.text
    row = answer.json()
    assert (row["organization_alias"], row["models"], row["spend"]) == ("Acme", ["sample-chat"], 0)
    assert row["metadata"] == {"a": 1, "model_rpm_limit": {"sample-chat": 5}}
    table = row["litellm_budget_table"]
    assert (table["budget_id"], table["max_budget"], table["budget_duration"]) == (row["budget_id"], 10, "1d")
    assert table["budget_reset_at"] is not None
    plain = (await admin.post("/organization/new", organization_alias="Plain")).json()
    assert plain["litellm_budget_table"]["max_budget"] is None


async def test_a_wrong_organization_is_refused(admin: Caller, instance: Quart) -> None:
    await new_organization(admin)
    with database_of(instance).active():
        await Budget.create(budget_id="shared", max_budget=1)
    cases: list[tuple[dict[str, object], int]] = [
        ({"organization_alias": None}, 422),
        ({"organization_alias": ""}, 400),
        ({"organization_id": "acme"}, 409),
        ({"budget_id": "nope"}, 404),
        ({"budget_id": "shared", "max_budget": 1}, 400),
        ({"max_budget": -1}, 400),
        ({"budget_duration": "5x"}, 400),
        ({"models": "all"}, 422),
    ]
    for body, status in cases:
        answer = await admin.post("/organization/new", **{"organization_alias": "Other", **body})
        assert answer.status_code == status, answer.text
    assert len((await admin.get("/organization/list")).json()) == 1
    answer = await admin.post("/organization/new", organization_alias="Other", budget_id="shared")
    assert answer.json()["litellm_budget_table"]["max_budget"] == 1


async def test_only_admins_create_and_delete(admin: Caller, alice: Caller, vera: Caller, ivan: Caller) -> None:
    await new_organization(admin)
    olga = await organization_admin(admin)
    for caller, role in ((alice, "internal_user"), (olga, "internal_user")):
        for method, path, body in (
            ("POST", "/organization/new", {"organization_alias": "Mine"}),
            ("DELETE", "/organization/delete", {"organization_ids": ["acme"]}),
        ):
            refusal = await send(caller, method, path, **body)
            error = refusal.json()["error"]
            assert (refusal.status_code, error["type"], error["param"]) == (401, "auth_error", "user_role")
            assert error["message"].startswith("Only proxy admins can")
            assert error["message"].endswith(f"You are {role}")
    assert (await vera.post("/organization/new", organization_alias="Mine")).status_code == 403
    assert (await ivan.post("/organization/new", organization_alias="Mine")).status_code == 401


async def test_only_what_is_sent_changes(admin: Caller) -> None:
    await new_organization(admin, max_budget=10, tpm_limit=5, metadata={"a": 1}, model_rpm_limit={"m": 1})
    path = "/organization/update"
    row = (await send(admin, "PATCH", path, organization_id="acme", max_budget=20, metadata={"b": 2})).json()
    assert row["metadata"] == {"b": 2, "model_rpm_limit": {"m": 1}}
    table = row["litellm_budget_table"]
    assert (table["max_budget"], table["tpm_limit"], row["organization_alias"]) == (20, 5, "Acme")
    row = (await send(admin, "PATCH", path, organization_id="acme", max_budget=None, models=["m"])).json()
    assert (row["litellm_budget_table"]["max_budget"], row["models"]) == (None, ["m"])
    stale = await send(admin, "PATCH", path, organization_id="acme", models=[], version=1)
    assert (stale.status_code, stale.json()["error"]["param"]) == (409, "version")
    assert (await send(admin, "PATCH", path, organization_id="zzz")).status_code == 404
    assert (await send(admin, "PATCH", path, models=[])).status_code == 422


async def test_a_shared_budget_is_copied_before_it_changes(admin: Caller, instance: Quart) -> None:
    with database_of(instance).active():
        await Budget.create(budget_id="shared", max_budget=5, tpm_limit=7)
    await new_organization(admin, budget_id="shared")
    row = (await send(admin, "PATCH", "/organization/update", organization_id="acme", max_budget=6)).json()
    table = row["litellm_budget_table"]
    assert (table["max_budget"], table["tpm_limit"]) == (6, 7)
    assert table["budget_id"] != "shared"
    with database_of(instance).active():
        assert (await Budget.get(budget_id="shared")).max_budget == 5


async def test_admins_of_an_organization_change_its_name_and_no_ceiling(admin: Caller, alice: Caller) -> None:
    await new_organization(admin, max_budget=1)
    await new_organization(admin, "other")
    olga = await organization_admin(admin)
    path = "/organization/update"
    row = (await send(olga, "PATCH", path, organization_id="acme", organization_alias="Ours", metadata={"a": 1})).json()
    assert (row["organization_alias"], row["metadata"]) == ("Ours", {"a": 1})
    changes = {"max_budget": 9, "models": ["x"], "budget_id": None, "model_rpm_limit": {}}
    for name, value in changes.items():
        assert (await send(olga, "PATCH", path, organization_id="acme", **{name: value})).status_code == 403
    assert (await send(olga, "PATCH", path, organization_id="other", organization_alias="Mine")).status_code == 403
    assert (await send(alice, "PATCH", path, organization_id="acme", organization_alias="Mine")).status_code == 401


async def test_deleting_takes_teams_members_and_keys(admin: Caller, alice: Caller, instance: Quart) -> None:
    await new_organization(admin)
    member = {"user_id": "alice", "role": "internal_user"}
    await admin.post("/organization/member_add", organization_id="acme", member=member, max_budget_in_organization=1)
    team_id = await new_team(admin, organization_id="acme", team_member_budget=1)
    of_team = await admin.new_key(team_id=team_id)
    own = await admin.new_key(organization_id="acme")
    other = await admin.new_key()
    answer = await send(admin, "DELETE", "/organization/delete", organization_ids=["acme"])
    assert [row["organization_id"] for row in answer.json()] == ["acme"]
    for key, status in ((of_team, 401), (own, 401), (other, 200)):
        assert (await Caller(admin.client, key["key"]).get("/key/info")).status_code == status
    with database_of(instance).active():
        assert await Budget.all().count() == 0
        assert await OrganizationMembership.all().count() == 0
        assert await DeletedTeam.filter(team_id=team_id).count() == 1
        assert await DeletedVirtualKey.all().count() == 2
        assert await User.filter(user_id="alice").count() == 1
        assert await AuditLog.filter(action="deleted", object_id="acme").count() == 1
    assert (await send(admin, "DELETE", "/organization/delete", organization_ids=["acme"])).status_code == 404
    assert (await send(admin, "DELETE", "/organization/delete", organization_ids=[])).status_code == 400


async def test_everybody_sees_the_organizations_that_they_are_in(
    admin: Caller, alice: Caller, bob: Caller, vera: Caller, ivan: Caller
) -> None:
    await new_organization(admin, max_budget=3)
    await new_organization(admin, "other")
    olga = await organization_admin(admin)
    await admin.post("/organization/member_add", organization_id="acme", member={"user_id": "alice"})
    open_team = await new_team(admin, organization_id="acme", members_with_roles=[{"user_id": "alice"}])
    closed_team = await new_team(admin, organization_id="acme")

    async def listed(caller: Caller) -> dict[str, tuple[set[str], set[str]]]:
        rows = (await caller.get("/organization/list")).json()
        return {
            row["organization_id"]: (
                {member["user_id"] for member in row["members"]},
                {team["team_id"] for team in row["teams"]},
            )
            for row in rows
        }

    whole = ({"olga", "alice"}, {open_team, closed_team})
    assert await listed(vera) == {"acme": whole, "other": (set(), set())}
    assert await listed(olga) == {"acme": whole}
    assert await listed(alice) == {"acme": ({"alice"}, {open_team})}
    assert await listed(bob) == {}
    assert await listed(ivan) == {}


async def test_the_list_is_narrowed(admin: Caller) -> None:
    await new_organization(admin, "one", organization_alias="Blue")
    await new_organization(admin, "two", organization_alias="Red")

    async def ids(**query: object) -> list[str]:
        return [row["organization_id"] for row in (await admin.get("/organization/list", **query)).json()]

    assert await ids() == ["two", "one"]
    assert await ids(org_alias="blu") == ["one"]
    assert await ids(org_id="two") == ["two"]
    assert await ids(page=2, page_size=1) == ["one"]
    assert (await admin.get("/organization/list", page=0)).status_code == 422


async def test_one_organization_as_its_page_shows_it(admin: Caller, alice: Caller, bob: Caller) -> None:
    await new_organization(admin, max_budget=3)
    await admin.post("/organization/member_add", organization_id="acme", member={"user_id": "alice"})
    row = (await alice.get("/organization/info", organization_id="acme")).json()
    assert (row["organization_id"], row["litellm_budget_table"]["max_budget"]) == ("acme", 3)
    assert row["members"][0]["user"]["user_email"] == "alice@acme.example"
    assert (await bob.get("/organization/info", organization_id="acme")).status_code == 403
    assert (await admin.get("/organization/info", organization_id="zzz")).status_code == 404
    assert (await admin.get("/organization/info")).status_code == 422
    rows = (await alice.post("/organization/info", organizations=["acme", "zzz"])).json()
    assert [row["organization_id"] for row in rows] == ["acme"]
    assert (await bob.post("/organization/info", organizations=["acme"])).status_code == 404
    assert (await admin.post("/organization/info", organizations=[])).status_code == 400
