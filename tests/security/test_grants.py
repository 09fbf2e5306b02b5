"""What a key's limits mean to who holds it: they tighten them, share them with the keys they make, and lift none."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from quart import Quart

from app.admin.keys.fields import IN_METADATA, KEY
from app.admin.keys.grants import RULES, OfNewKeys
from app.models import Budget, VirtualKey
from tests.admin.conftest import Caller
from tests.admin.org_cast import services_of

Fields = dict[str, Any]

# fixed date: far ahead
_LATER = "2099-01-01T00:00:00Z"
_MODELS = {"sample-chat": {"max_budget": 5, "budget_duration": "1d"}}
_WINDOWS = [{"budget_duration": "1d", "max_budget": 5}]
_INCREASE = {"temp_budget_increase": 5, "temp_budget_expiry": _LATER}


def _looser_budgets() -> list[Any]:
    return [
        None,
        {},
        {"other": _MODELS["sample-chat"]},
        {"sample-chat": {"max_budget": 6, "budget_duration": "1d"}},
        {"sample-chat": {"max_budget": 5, "budget_duration": "1h"}},
        {"sample-chat": {"max_budget": True, "budget_duration": "1d"}},
    ]


# Every field that limits a key: what an admin sets, what its owner cannot make of it, and what they can.
LIMITS: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "max_budget": (5, [None, "", 6], [5, 4]),
    "soft_budget": (5, [None, 6], [4]),
    "tpm_limit": (100, [None, 101], [100, 99]),
    "rpm_limit": (100, [None, 101], [99]),
    "tpd_limit": (100, [None, 101], [99]),
    "max_parallel_requests": (3, [None, 4], [2]),
    "models": (["sample-chat", "b"], [None, [], ["*"], ["other"], ["sample*"]], [["sample-chat"]]),
    "access_group_ids": ([], [], [[]]),
    "budget_duration": ("30d", ["1d", "1h", "1mo"], ["30d", "90d", None]),
    "budget_limits": (
        _WINDOWS,
        [None, [], [{"budget_duration": "1h", "max_budget": 5}], [{"budget_duration": "1d", "max_budget": 6}]],
        [_WINDOWS, [*_WINDOWS, {"budget_duration": "30d", "max_budget": 50}]],
    ),
    "model_max_budget": (
        _MODELS,
        _looser_budgets(),
        [{"sample-chat": {"max_budget": 4, "budget_duration": "1d"}, "other": {"max_budget": 1}}],
    ),
    "budget_id": ("small", [None, "large"], ["small"]),
    "duration": ("30d", [None, "-1", "60d"], ["1d"]),
    "allowed_routes": (["/key/*", "llm_api_routes"], [None, [], ["/*"], ["/user/info"]], [["/key/info", "/key/*"]]),
    "key_type": ("llm_api", ["default", "management"], ["llm_api"]),
    "allowed_passthrough_routes": (["/a/*"], [None, [], ["/b"], ["/*"]], [["/a/b"]]),
    "denied_passthrough_routes": (["/a"], [None, [], ["/b"]], [["/a", "/b"]]),
    "allowed_cache_controls": (["no-cache", "ttl"], [None, [], ["no-store"]], [["ttl"]]),
    "prompts": (["p"], [None, [], ["q"]], [["p"]]),
    "tags": (["a"], [None, [], ["b"]], [["a", "b"]]),
    "guardrails": (["a"], [None, [], ["b"]], [["b", "a"]]),
    "policies": (["a"], [None, [], ["b"]], [["b", "a"]]),
    "enforced_params": (["user"], [None, [], ["b"]], [["user", "b"]]),
    "model_rpm_limit": (
        {"sample-chat": 1},
        [None, {}, {"sample-chat": 2}, {"sample-chat": True}],
        [{"sample-chat": 0}],
    ),
    "model_tpm_limit": ({"sample-chat": 9}, [None, {}, {"sample-chat": 10}, {"a": 1}], [{"sample-chat": 9, "a": 1}]),
    "mcp_rpm_limit": ({"s": 9}, [None, {}, {"s": 10}], [{"s": 8}]),
    "tag_rpm_limit": ({"t": 9}, [None, {}, {"t": "9"}], [{"t": 8}]),
    "rpm_limit_type": ("guaranteed_throughput", [None, "dynamic"], ["guaranteed_throughput"]),
    "tpm_limit_type": ("guaranteed_throughput", [None, "dynamic"], ["guaranteed_throughput"]),
    "end_user_budget_id": ("small", [None, "large"], ["small"]),
    "project_id": ("p", [None, "q"], ["p"]),
    "agent_id": ("a", [None, "b"], ["a"]),
    "auto_rotate": (True, [False, None], [True]),
    "rotation_interval": ("7d", [None, "30d"], ["7d", "1d"]),
    "organization_id": ("acme", [None, "other"], []),
    "blocked": (False, [True], []),
    "spend": (3, [0, 2], []),
    "permissions": ({}, [{"get_spend_routes": True}], []),
    "disable_global_guardrails": (False, [True], [False]),
    "throttle_on_budget_exceeded": (False, [True], []),
    "temp_budget_increase": (None, [5], []),
    "temp_budget_expiry": (None, [_LATER], []),
}
# What needs another field to hold a limit.
BESIDE: dict[str, Fields] = {
    "budget_duration": {"max_budget": 5},
    "auto_rotate": {"rotation_interval": "7d"},
    "rotation_interval": {"auto_rotate": True},
}
# What its owner writes as they like, or what decides whose key it is (tests/admin/keys).
NO_LIMITS = {
    *("key_alias", "metadata", "aliases", "config", "router_settings", "budget_fallbacks"),
    *("user_id", "team_id"),
}
LOOSER = [(name, value) for name, (_, looser, _) in LIMITS.items() for value in looser]
TIGHTER = [(name, value) for name, (_, _, tighter) in LIMITS.items() for value in tighter]


@pytest.fixture
async def budgets(admin: Caller) -> None:
    for name, ceiling in (("small", 5), ("large", 500)):
        body = {"budget_id": name, "max_budget": ceiling, "rpm_limit": ceiling, "model_max_budget": _MODELS}
        assert (await admin.post("/budget/new", **body)).status_code == 200
    for name in ("acme", "other"):
        await admin.post("/organization/new", organization_id=name, organization_alias=name)


def _with_partner(name: str, value: Any) -> Fields:
    return _INCREASE if name.startswith("temp_budget") else {name: value}


async def _limited(admin: Caller, name: str) -> dict[str, Any]:
    """A key of Alice on which the admin has set a limit."""
    value = LIMITS[name][0]
    return await admin.new_key(user_id="alice", **BESIDE.get(name, {}), **({} if value is None else {name: value}))


def test_every_field_of_a_key_has_a_rule_and_is_tried_here() -> None:
    assert set(RULES) == set(KEY)
    assert set(LIMITS) | NO_LIMITS == set(KEY) and not set(LIMITS) & NO_LIMITS


@pytest.mark.usefixtures("budgets")
@pytest.mark.parametrize(("name", "value"), LOOSER, ids=str)
async def test_an_owner_lifts_no_limit(admin: Caller, alice: Caller, name: str, value: Any) -> None:
    key = await _limited(admin, name)
    before = await admin.info(key["token"])
    for path in ("/key/update", "/key/regenerate"):
        refused = await alice.post(path, key=key["token"], **_with_partner(name, value))
        assert (refused.status_code, await admin.info(key["token"])) == (403, before), (path, refused.text)


@pytest.mark.usefixtures("budgets")
@pytest.mark.parametrize(("name", "value"), TIGHTER, ids=str)
async def test_an_owner_tightens_and_repeats(admin: Caller, alice: Caller, name: str, value: Any) -> None:
    key = await _limited(admin, name)
    changed = await alice.post("/key/update", key=key["token"], **{name: value})
    assert changed.status_code == 200, changed.text


@pytest.mark.parametrize("name", [name for name in LIMITS if name in IN_METADATA and LIMITS[name][0]])
async def test_no_limit_goes_with_the_metadata(admin: Caller, alice: Caller, name: str) -> None:
    key = await _limited(admin, name)
    for metadata in ({}, {"team": "x"}, *({name: value} for value in LIMITS[name][1] if value is not None)):
        refused = await alice.post("/key/update", key=key["token"], metadata=metadata)
        assert refused.status_code == 403, (metadata, refused.text)
    kept = {"team": "x", name: LIMITS[name][0]}
    assert (await alice.post("/key/update", key=key["token"], metadata=kept)).status_code == 200


async def test_labels_and_preferences_are_the_owners(admin: Caller, alice: Caller) -> None:
    key = await admin.new_key(user_id="alice", max_budget=5)
    fields: Fields = {
        "key_alias": "mine",
        "aliases": {"a": "sample-chat"},
        "metadata": {"x": 1},
        "budget_fallbacks": {},
    }
    changed = await alice.post("/key/update", key=key["token"], **fields)
    assert (changed.status_code, changed.json()["metadata"]) == (200, {"x": 1}), changed.text


@pytest.mark.usefixtures("budgets")
@pytest.mark.parametrize(
    "fields",
    [
        {"max_budget": 6},
        {"rpm_limit": 6},
        {"model_max_budget": {"other": {"max_budget": 1}}},
        {"budget_duration": "1h"},
    ],
)
async def test_a_shared_budget_is_not_written_over(admin: Caller, alice: Caller, fields: Fields) -> None:
    """Where a key says nothing its budget does; what it says itself comes first."""
    key = await admin.new_key(user_id="alice", budget_id="small")
    assert (await alice.post("/key/update", key=key["token"], **fields)).status_code == 403
    assert (await alice.post("/key/update", key=key["token"], max_budget=4)).status_code == 200


async def test_an_access_group_is_a_grant(admin: Caller, alice: Caller) -> None:
    groups = []
    for name in ("small", "large"):
        made = await admin.post("/v1/access_group", access_group_name=name, access_model_names=["sample-chat"])
        assert made.status_code in (200, 201), made.text
        groups.append(made.json()["access_group_id"])
    key = await admin.new_key(user_id="alice", access_group_ids=groups[:1])
    wider: list[Fields] = [{"access_group_ids": []}, {"access_group_ids": groups}, {"models": ["other"]}]
    for fields in [*wider, {"models": groups[1:]}]:
        assert (await alice.post("/key/update", key=key["token"], **fields)).status_code == 403, fields
    free = await admin.new_key(user_id="alice")
    assert (await alice.post("/key/update", key=free["token"], access_group_ids=groups[:1])).status_code == 200


async def test_the_row_that_was_compared_is_the_row_that_is_written(admin: Caller, alice: Caller) -> None:
    key = await admin.new_key(user_id="alice", max_budget=10)
    version = (await admin.info(key["token"]))["version"]
    assert (await admin.post("/key/update", key=key["token"], max_budget=5)).status_code == 200
    late = await alice.post("/key/update", key=key["token"], max_budget=4, version=version)
    assert late.status_code == 409


# ---- teams -----------------------------------------------------------------------------------------------------------


async def _team(admin: Caller, **fields: Any) -> str:
    members = [{"user_id": "alice", "role": "admin"}, {"user_id": "bob", "role": "user"}]
    permissions = ["/key/update", "/key/regenerate", "/key/unblock", "/key/generate"]
    answer = await admin.post("/team/new", members_with_roles=members, team_member_permissions=permissions, **fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["team_id"])


@pytest.mark.parametrize("owner", ["bob", None])
async def test_a_member_with_permission_lifts_no_limit(
    admin: Caller, alice: Caller, bob: Caller, owner: str | None
) -> None:
    """Of a member's key, of a service account's, whoever made it."""
    team = await _team(admin)
    for maker in (admin, alice):
        key = await maker.new_key(team_id=team, max_budget=5, **({"user_id": owner} if owner else {}))
        for path in ("/key/update", "/key/regenerate"):
            assert (await bob.post(path, key=key["token"], max_budget=6)).status_code == 403, path
        assert (await bob.post("/key/update", key=key["token"], max_budget=4)).status_code == 200


async def test_an_admin_of_a_team_lifts_limits_of_what_the_team_made(admin: Caller, alice: Caller, bob: Caller) -> None:
    team = await _team(admin, max_budget=50)
    owners: list[Fields] = [{}, {"user_id": "bob"}]
    for owner in owners:
        theirs = await alice.new_key(team_id=team, max_budget=5, **owner)
        assert (await alice.post("/key/update", key=theirs["token"], max_budget=9)).status_code == 200
        assert (await alice.post("/key/update", key=theirs["token"], max_budget=51)).status_code == 400
        instances = await admin.new_key(team_id=team, max_budget=5, **owner)
        assert (await alice.post("/key/update", key=instances["token"], max_budget=9)).status_code == 403
    own = await alice.new_key(team_id=team, user_id="alice", max_budget=5)
    assert (await alice.post("/key/update", key=own["token"], max_budget=9)).status_code == 403


async def test_nobody_but_an_admin_undoes_what_was_done_to_an_own_key(
    admin: Caller, alice: Caller, bob: Caller
) -> None:
    team = await _team(admin)
    for caller, owner in ((alice, "alice"), (bob, "bob")):
        key = await admin.new_key(team_id=team, user_id=owner)
        await admin.post("/key/block", key=key["token"])
        assert (await caller.post("/key/unblock", key=key["token"])).status_code == 403
        assert (await caller.post(f"/key/{key['token']}/reset_spend", reset_to=0)).status_code == 403
        assert (await admin.info(key["token"]))["blocked"] is True


# ---- keys that are made with a limited key ---------------------------------------------------------------------------

DIVIDED = [name for name, rule in RULES.items() if rule.of_new_keys is OfNewKeys.DIVIDED]
REFUSED = [name for name, rule in RULES.items() if rule.of_new_keys is OfNewKeys.REFUSED]
COPIED = [name for name, rule in RULES.items() if rule.of_new_keys is OfNewKeys.COPIED and LIMITS[name][0]]
_KEY_ROUTES = ["/key/*", "llm_api_routes"]


@pytest.mark.usefixtures("budgets")
@pytest.mark.parametrize("name", DIVIDED)
async def test_what_is_given_away_is_taken_from_the_key(admin: Caller, alice: Caller, name: str) -> None:
    made = await admin.new_key(user_id="alice", **{name: 10})
    limited = Caller(alice.client, made["key"])
    for fields in ({}, {name: None}, {name: 11}, {"budget_id": "large"}):
        assert (await limited.post("/key/generate", **fields)).status_code in (400, 403), fields
    child = await limited.new_key(**{name: 4})
    assert (child[name], (await admin.info(made["token"]))[name]) == (4, 6)
    assert (await limited.post("/key/generate", **{name: 7})).status_code == 403
    assert (await limited.post("/key/delete", keys=[child["token"]])).status_code == 200
    assert (await limited.post("/key/generate", **{name: 7})).status_code == 403, "deleting gives nothing back"


@pytest.mark.usefixtures("budgets")
@pytest.mark.parametrize("name", REFUSED)
async def test_a_limit_that_cannot_be_divided_allows_no_new_keys(admin: Caller, alice: Caller, name: str) -> None:
    limited = Caller(alice.client, (await _limited(admin, name))["key"])
    for fields in ({}, {name: LIMITS[name][0]}):
        refused = await limited.post("/key/generate", **fields)
        assert (refused.status_code, refused.json()["error"]["param"]) == (403, name), refused.text


@pytest.mark.usefixtures("budgets")
@pytest.mark.parametrize("name", [name for name in COPIED if name != "budget_duration"])
async def test_a_new_key_has_the_limits_of_the_one_that_made_it(admin: Caller, alice: Caller, name: str) -> None:
    made = await _limited(admin, name)
    limited = Caller(alice.client, made["key"])
    child = await admin.info((await limited.new_key())["token"])
    if name == "duration":
        assert datetime.fromisoformat(child["expires"]) <= datetime.fromisoformat(made["expires"])
    else:
        stored = child["metadata"] if name in IN_METADATA else child
        assert stored[name] == LIMITS[name][0]
    for value in LIMITS[name][1]:
        assert (await limited.post("/key/generate", **{name: value})).status_code == 403, value
    if name in IN_METADATA:
        loosened = [value for value in LIMITS[name][1] if value]
        for value in loosened:
            assert (await limited.post("/key/generate", metadata={name: value})).status_code == 403, value


async def test_a_shorter_period_is_a_larger_budget(admin: Caller, alice: Caller) -> None:
    made = await admin.new_key(user_id="alice", max_budget=10, budget_duration="30d")
    limited = Caller(alice.client, made["key"])
    assert (await limited.post("/key/generate", max_budget=1, budget_duration="1d")).status_code == 403
    assert (await limited.new_key(max_budget=1))["budget_duration"] == "30d"
    endless = Caller(alice.client, (await admin.new_key(user_id="alice", max_budget=10))["key"])
    assert (await endless.post("/key/generate", max_budget=1, budget_duration="1d")).status_code == 403


async def test_what_is_spent_is_not_given_away(admin: Caller, alice: Caller, instance: Quart) -> None:
    made = await admin.new_key(user_id="alice", max_budget=10)
    with services_of(instance).database.active():
        await VirtualKey.filter(token=made["token"]).update(spend=8)
    limited = Caller(alice.client, made["key"])
    assert (await limited.post("/key/generate", max_budget=3)).status_code == 403
    assert (await limited.post("/key/generate", max_budget=2)).status_code == 200


async def test_a_limited_key_makes_no_service_account_beyond_it(admin: Caller, alice: Caller, bob: Caller) -> None:
    team = await _team(admin)
    limited = Caller(alice.client, (await admin.new_key(user_id="alice", team_id=team, max_budget=10))["key"])
    path = "/key/service-account/generate"
    for fields in ({}, {"max_budget": 11}):
        assert (await limited.post(path, team_id=team, **fields)).status_code in (400, 403)
    assert (await limited.post(path, team_id=team, max_budget=10)).status_code == 200


async def test_a_limited_key_learns_no_secret_of_a_wider_one(admin: Caller, alice: Caller) -> None:
    wide = await alice.new_key()
    for fields in ({"max_budget": 5}, {"models": ["sample-chat"]}, {"duration": "1d"}):
        made = await admin.new_key(user_id="alice", **fields)
        limited = Caller(alice.client, made["key"])
        assert (await limited.post("/key/regenerate", key=wide["token"])).status_code == 403, fields
        assert (await limited.post("/key/regenerate", key=made["token"])).status_code == 200, fields


async def test_a_limited_key_of_an_admin_of_a_team_lifts_nothing(admin: Caller, alice: Caller, bob: Caller) -> None:
    team = await _team(admin)
    theirs = await alice.new_key(team_id=team, user_id="bob", rpm_limit=1)
    limited = Caller(alice.client, (await admin.new_key(user_id="alice", team_id=team, rpm_limit=5))["key"])
    assert (await limited.post("/key/update", key=theirs["token"], rpm_limit=4)).status_code == 403


async def test_a_key_of_an_organization_makes_keys_of_it(admin: Caller, alice: Caller) -> None:
    await admin.post("/organization/new", organization_id="acme", organization_alias="Acme")
    limited = Caller(alice.client, (await admin.new_key(user_id="alice", organization_id="acme"))["key"])
    for fields in ({}, {"organization_id": None}):
        assert (await limited.new_key(**fields))["organization_id"] == "acme"


async def test_an_unlimited_key_makes_what_it_likes(admin: Caller, alice: Caller, instance: Quart) -> None:
    with services_of(instance).database.active():
        assert await Budget.all().count() == 0
    key = await alice.new_key(max_budget=1000, models=["*"], tags=["a"], rpm_limit_type="dynamic")
    assert key["max_budget"] == 1000
    assert (await alice.post("/key/generate", disable_global_guardrails=True)).status_code == 403
