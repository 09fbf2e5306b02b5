"""Lists of keys: filtered, sorted and paged by the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.admin.conftest import Caller


async def _aliases(caller: Caller, **query: object) -> list[str]:
    answer = await caller.get("/key/list", return_full_object=True, size=100, **query)
    assert answer.status_code == 200, answer.text
    return [key["key_alias"] for key in answer.json()["keys"]]


async def test_pages_are_cut_with_right_totals(admin: Caller) -> None:
    tokens = [(await admin.new_key(key_alias=f"key {number}"))["token"] for number in range(5)]
    first = (await admin.get("/key/list", size=2, sort_by="key_alias", sort_order="asc")).json()
    assert first == {
        "keys": tokens[:2],
        "total_count": 5,
        "total_is_capped": False,
        "current_page": 1,
        "total_pages": 3,
    }
    past_the_end = (await admin.get("/key/list", size=2, page=9)).json()
    assert (past_the_end["keys"], past_the_end["total_count"], past_the_end["total_pages"]) == ([], 5, 3)
    newest_first = (await admin.get("/key/list")).json()["keys"]
    assert newest_first == tokens[::-1]


async def test_money_sorts_as_numbers(admin: Caller) -> None:
    for alias, budget in (("nine", 9), ("ten", 10.5), ("hundred", 100), ("tiny", 1e-9)):
        await admin.new_key(key_alias=alias, max_budget=budget)
    assert await _aliases(admin, sort_by="max_budget", sort_order="asc") == ["tiny", "nine", "ten", "hundred"]


async def test_filters(admin: Caller, alice: Caller) -> None:
    team = (await admin.post("/team/new", team_alias="Team")).json()["team_id"]
    plain = await admin.new_key(key_alias="Alpha_1")
    await admin.new_key(key_alias="alpha%2", team_id=team)
    await admin.new_key(key_alias="beta", user_id="alice")
    assert await _aliases(admin, key_alias="alpha", substring_matching=True, sort_order="asc") == ["Alpha_1", "alpha%2"]
    assert await _aliases(admin, key_alias="%", substring_matching=True) == ["alpha%2"]
    assert await _aliases(admin, key_alias="alpha") == []
    assert await _aliases(admin, key_alias="beta") == ["beta"]
    assert await _aliases(admin, team_id=team) == ["alpha%2"]
    assert await _aliases(admin, user_id="alice") == ["beta", None]
    assert await _aliases(admin, key_hash=plain["token"]) == ["Alpha_1"]
    assert await _aliases(admin, key_hash=plain["key"]) == ["Alpha_1"]
    assert await _aliases(admin, search="ALPHA", sort_order="asc") == ["Alpha_1", "alpha%2"]
    assert await _aliases(admin, search="' OR 1=1 --") == []


async def test_filter_by_the_end_of_life(admin: Caller) -> None:
    await admin.new_key(key_alias="soon", duration="1h")
    await admin.new_key(key_alias="later", duration="30d")
    await admin.new_key(key_alias="never")
    limit = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert await _aliases(admin, expires=limit) == ["soon"]
    assert (await admin.get("/key/list", expires="tomorrow")).status_code == 422


async def test_teams_have_names(admin: Caller) -> None:
    team = (await admin.post("/team/new", team_alias="Team")).json()["team_id"]
    await admin.new_key(team_id=team)
    (row,) = (await admin.get("/key/list", team_id=team, return_full_object=True)).json()["keys"]
    assert row["team_alias"] == "Team"


async def test_an_unknown_access_group_has_no_keys(admin: Caller) -> None:
    await admin.new_key()
    assert (await admin.get("/key/list", access_group_id="nobody")).json()["keys"] == []


async def test_filter_by_status(admin: Caller) -> None:
    await admin.new_key(key_alias="active", duration="1h")
    await admin.new_key(key_alias="expired", duration="1s")
    await admin.new_key(key_alias="revoked", blocked=True)
    key = (await admin.new_key(key_alias="gone"))["key"]
    await admin.post("/key/delete", keys=[key])
    assert await _aliases(admin, status="revoked") == ["revoked"]
    assert await _aliases(admin, status="deleted") == ["gone"]
    assert "active" in await _aliases(admin, status="active")


async def test_the_owner_comes_along(admin: Caller, alice: Caller) -> None:
    await admin.new_key(key_alias="hers", user_id="alice")
    await admin.new_key(key_alias="of a stranger", user_id="stranger")
    rows = (await admin.get("/key/list", return_full_object=True, expand="user")).json()["keys"]
    users = {row["key_alias"]: row["user"] for row in rows}
    assert users["hers"] == {"user_id": "alice", "user_email": "alice@acme.example", "user_alias": None}
    assert users["of a stranger"] is None


async def test_users_see_their_own(admin: Caller, alice: Caller, bob: Caller, vera: Caller) -> None:
    await admin.new_key(key_alias="of alice", user_id="alice")
    await admin.new_key(key_alias="of bob", user_id="bob")
    assert sorted(filter(None, await _aliases(alice))) == ["of alice"]
    assert sorted(filter(None, await _aliases(vera))) == ["of alice", "of bob"]
    assert (await alice.get("/key/list", user_id="bob")).status_code == 403
    assert (await alice.get("/key/list", team_id="elsewhere")).status_code == 403
    assert (await alice.get("/key/aliases")).json()["aliases"] == ["of alice"]


async def test_admins_of_a_team_see_its_keys(admin: Caller, alice: Caller, bob: Caller) -> None:
    members = [{"user_id": "alice", "role": "admin"}, {"user_id": "bob", "role": "user"}]
    team = (await admin.post("/team/new", members_with_roles=members)).json()["team_id"]
    key = await alice.new_key(key_alias="of bob in team", team_id=team, user_id="bob")
    assert key["user_id"] == "bob"
    assert await _aliases(alice, team_id=team) == ["of bob in team"]
    assert "of bob in team" in await _aliases(alice, include_team_keys=True)
    assert "of bob in team" not in await _aliases(alice)
    assert await _aliases(bob, team_id=team) == ["of bob in team"]
    assert (await alice.post("/key/block", key=key["token"])).status_code == 200
    assert (await alice.post("/key/generate", team_id=team, user_id="stranger")).status_code == 400
    refusal = await bob.post("/key/generate", team_id=team)
    assert (refusal.status_code, refusal.json()["error"]["type"]) == (401, "team_member_permission_error")
    await admin.post("/team/update", team_id=team, team_member_permissions=["/key/generate"])
    assert (await bob.new_key(team_id=team))["user_id"] == "bob"


async def test_aliases_in_pages(admin: Caller) -> None:
    for alias in ("b", "a", "c"):
        await admin.new_key(key_alias=alias)
    await admin.new_key()
    answer = (await admin.get("/key/aliases", size=2)).json()
    assert (answer.pop("aliases"), answer.pop("total_is_capped")) == (["a", "b"], False)
    assert answer == {"total_count": 3, "current_page": 1, "total_pages": 2, "size": 2}


async def test_a_wrong_query_is_refused(admin: Caller) -> None:
    cases: list[tuple[dict[str, object], int]] = [
        ({"size": 101}, 422),
        ({"size": 0}, 422),
        ({"page": 0}, 422),
        ({"page": "x"}, 422),
        ({"user_id": "a\x00"}, 422),
        ({"sort_by": "models"}, 400),
        ({"sort_order": "sideways"}, 400),
        ({"status": "lost"}, 400),
    ]
    for query, status in cases:
        assert (await admin.get("/key/list", **query)).status_code == status
