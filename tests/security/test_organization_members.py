"""Whom an admin of an organization takes in, and what they see of people who are not theirs."""

from __future__ import annotations

from tests.admin.conftest import Caller
from tests.admin.organization_cast import new_organization, organization_admin, send

_PUBLIC = ("user_id", "user_email", "user_alias", "user_role")


async def _olga(admin: Caller) -> Caller:
    """An admin of the organization acme, which Ben was made for."""
    await new_organization(admin)
    olga = await organization_admin(admin)
    made = await olga.post("/user/new", user_id="ben", organizations=["acme"], max_budget=7, metadata={"desk": "4"})
    assert made.status_code == 200, made.text
    return olga


async def test_an_admin_of_an_organization_takes_in_nobody_who_was_not_asked(admin: Caller, bob: Caller) -> None:
    olga = await _olga(admin)
    for named in ({"user_id": "bob"}, {"user_email": "bob@acme.example"}):
        refused = await olga.post("/organization/member_add", organization_id="acme", member=named)
        assert (refused.status_code, refused.json()["error"]["param"]) == (403, "member"), refused.text
    assert (await olga.get("/user/info", user_id="bob")).status_code == 403
    member = [{"user_email": "new@acme.example"}]
    assert (await olga.post("/organization/member_add", organization_id="acme", member=member)).status_code == 200
    both = [{"user_email": "newer@acme.example"}, {"user_id": "bob"}]
    assert (await olga.post("/organization/member_add", organization_id="acme", member=both)).status_code == 403
    assert (await admin.get("/user/list", user_email="newer@acme.example")).json()["total"] == 0


async def test_who_left_comes_back_to_the_organization_they_were_made_for(admin: Caller) -> None:
    olga = await _olga(admin)
    named = {"organization_id": "acme", "user_id": "ben"}
    assert (await send(olga, "DELETE", "/organization/member_delete", **named)).status_code == 200
    added = await olga.post("/organization/member_add", organization_id="acme", member={"user_id": "ben"})
    assert added.status_code == 200, added.text


async def test_an_admin_of_an_organization_sees_of_others_the_public_fields(admin: Caller, bob: Caller) -> None:
    olga = await _olga(admin)
    private = {"max_budget": 9, "metadata": {"salary": 1}, "sso_user_id": "sso-of-bob", "models": ["b"], "rpm_limit": 3}
    assert (await admin.post("/user/update", user_id="bob", **private)).status_code == 200
    await admin.post("/organization/member_add", organization_id="acme", member={"user_id": "bob"})
    whole = (await admin.get("/v2/user/info", user_id="bob")).json()
    (listed,) = (await olga.get("/user/list", user_ids="bob")).json()["users"]
    seen = (await olga.get("/user/info", user_id="bob")).json()["user_info"]
    for row in (listed, seen, (await olga.get("/v2/user/info", user_id="bob")).json()):
        assert [row[name] for name in _PUBLIC] == [whole[name] for name in _PUBLIC]
        assert [row[name] for name in private] == [None, {}, None, [], None]
        assert set(row) >= set(whole) - {"model_max_budget_usage"}
    assert listed["key_count"] == 0
    assert (await olga.get("/user/list", sso_user_ids="sso-of-bob")).json()["total"] == 0
    assert (await admin.get("/user/list", sso_user_ids="sso-of-bob")).json()["total"] == 1
    theirs = (await olga.get("/v2/user/info", user_id="ben")).json()
    assert (theirs["max_budget"], theirs["metadata"]) == (7, {"desk": "4"})
    assert (await bob.get("/v2/user/info")).json()["metadata"] == {"salary": 1}
