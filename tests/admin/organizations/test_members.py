"""Who is in an organization."""

from __future__ import annotations

from quart import Quart

from app.models import Budget
from tests.admin.conftest import Caller
from tests.admin.organization_cast import database_of, new_organization, organization_admin, send

_ADD = "/organization/member_add"
_UPDATE = "/organization/member_update"
_DELETE = "/organization/member_delete"


async def test_members_come_change_and_go(admin: Caller, alice: Caller, instance: Quart) -> None:
    await new_organization(admin)
    member = {"user_email": "Alice@acme.example", "role": "internal_user"}
    answer = await admin.post(_ADD, organization_id="acme", member=member, max_budget_in_organization=2)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["organization_id"], body["updated_users"][0]["user_id"]) == ("acme", "alice")
    row = body["updated_organization_memberships"][0]
    assert (row["user_role"], row["litellm_budget_table"]["max_budget"]) == ("internal_user", 2)
    assert (await admin.post(_ADD, organization_id="acme", member=member)).status_code == 400
    named = {"organization_id": "acme", "user_id": "alice"}
    row = (await send(admin, "PATCH", _UPDATE, **named, role="org_admin", max_budget_in_organization=3)).json()
    assert (row["user_role"], row["litellm_budget_table"]["max_budget"]) == ("org_admin", 3)
    row = (await send(admin, "PATCH", _UPDATE, **named, max_budget_in_organization=None)).json()
    assert row["litellm_budget_table"]["max_budget"] is None
    gone = await send(admin, "DELETE", _DELETE, **named)
    assert (gone.status_code, gone.json()["members"]) == (200, [])
    with database_of(instance).active():
        assert await Budget.filter(budget_id__startswith="organization-member-").count() == 0
    assert (await send(admin, "DELETE", _DELETE, **named)).status_code == 404


async def test_a_missing_member_is_created(admin: Caller) -> None:
    await new_organization(admin)
    members = [
        {"user_email": "new@acme.example", "role": "internal_user_viewer"},
        {"user_id": "u1", "role": "org_admin"},
    ]
    users = (await admin.post(_ADD, organization_id="acme", member=members)).json()["updated_users"]
    assert [(user["user_email"], user["user_role"]) for user in users] == [
        ("new@acme.example", "internal_user_viewer"),
        (None, "internal_user"),
    ]


async def test_a_role_holds_at_once(admin: Caller, alice: Caller) -> None:
    await new_organization(admin)
    await admin.post(_ADD, organization_id="acme", member={"user_id": "alice"})
    assert (await alice.post(_ADD, organization_id="acme", member={"user_id": "u1"})).status_code == 401
    named = {"organization_id": "acme", "user_id": "alice"}
    await send(admin, "PATCH", _UPDATE, **named, role="org_admin")
    assert (await alice.post(_ADD, organization_id="acme", member={"user_id": "u1"})).status_code == 200
    await send(admin, "DELETE", _DELETE, **named)
    assert (await alice.post(_ADD, organization_id="acme", member={"user_id": "u2"})).status_code == 401


async def test_admins_of_an_organization_manage_its_members_only(admin: Caller, alice: Caller, vera: Caller) -> None:
    await new_organization(admin)
    await new_organization(admin, "other")
    olga = await organization_admin(admin)
    new = {"user_id": "u0", "role": "org_admin"}
    added = await olga.post(_ADD, organization_id="acme", member=new)
    assert added.status_code == 200
    assert (await olga.post(_ADD, organization_id="acme", member={"user_id": "alice"})).status_code == 403
    assert set(added.json()["updated_users"][0]) == {"user_id", "user_email", "user_alias"}
    assert (await olga.post(_ADD, organization_id="other", member={"user_id": "alice"})).status_code == 403
    assert (await olga.post(_ADD, organization_id="acme", member={"user_id": "vera"})).status_code == 403
    for role in ("proxy_admin", "proxy_admin_viewer"):
        member = {"user_id": "u1", "role": role}
        assert (await olga.post(_ADD, organization_id="acme", member=member)).status_code == 422
    await admin.post(_ADD, organization_id="other", member={"user_id": "alice"})
    for method, path in (("PATCH", _UPDATE), ("DELETE", _DELETE)):
        refusal = await send(olga, method, path, organization_id="other", user_id="alice")
        assert refusal.status_code == 403
        assert (await send(vera, method, path, organization_id="other", user_id="alice")).status_code == 403


async def test_wrong_members_are_refused(admin: Caller) -> None:
    await new_organization(admin)
    cases: list[tuple[dict[str, object], int]] = [
        ({}, 422),
        ({"member": []}, 400),
        ({"member": {"role": "internal_user"}}, 422),
        ({"member": {"user_id": "u", "role": "king"}}, 422),
        ({"member": {"user_id": "u"}, "max_budget_in_organization": -1}, 400),
        ({"member": {"user_id": "u"}, "organization_id": "zzz"}, 404),
    ]
    for body, status in cases:
        assert (await admin.post(_ADD, **{"organization_id": "acme", **body})).status_code == status
    assert (await send(admin, "PATCH", _UPDATE, organization_id="acme")).status_code == 422
    assert (await send(admin, "PATCH", _UPDATE, organization_id="acme", user_id="u")).status_code == 404
    assert (await send(admin, "DELETE", _DELETE, organization_id="acme", user_email="u@x.y")).status_code == 404
