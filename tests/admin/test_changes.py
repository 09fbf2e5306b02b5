"""What is changed over HTTP holds for the next call, and other processes are told after the commit.

Every case warms the snapshot of a caller with one call, changes one kind of object, and calls again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from quart import Quart

from app.admin.changes import announced_once, create_row, transaction, update_rows
from app.models import Tag, Team, TeamMembership, User, VirtualKey
from app.services import Services
from app.settings import Settings
from app.storage.announcements import NullAnnouncer
from tests.admin.conftest import Caller
from tests.admin.org_cast import services_of
from tests.admin.organization_cast import new_organization, new_team, send
from tests.conftest import MASTER_KEY


class Recorder(NullAnnouncer):
    """What the other processes would be told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def announce(self, message: str) -> None:
        self.messages.append(message)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    deployment = {
        "model_name": "sample",
        "litellm_params": {"model": "openai/sample", "api_key": "none", "mock_response": "Ahoy"},
        "model_info": {"id": "configured", "access_groups": ["beta"]},
    }
    return Settings(
        master_key=MASTER_KEY,
        database_url=database_url,
        state_dir=tmp_path / "state",
        model_list=(deployment,),
        spend_flush_seconds=3600.0,
        permit_weak_master_key=True,
    )


@pytest.fixture
def services(instance: Quart) -> Services:
    return services_of(instance)


@pytest.fixture
async def recorder(services: Services) -> AsyncIterator[Recorder]:
    recorder, announcer = Recorder(), services.announcer
    services.announcer = recorder
    services.keys.on_change(recorder.announce, services.shared_scopes.forget)
    yield recorder
    services.announcer = announcer


# ---- one case for every kind of object -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A change by the admin, and how it turns the answer to a chat call. `{key}`: the hash of the caller's key."""

    name: str
    change: tuple[str, str, dict[str, Any]]
    status: int
    before: int = 200
    key: dict[str, Any] = field(default_factory=dict)
    call: dict[str, Any] = field(default_factory=dict)


_IN_TEAM = {"team_id": "crew", "user_id": "alice"}
CASES = [
    Case("key blocked", ("POST", "/key/block", {"key": "{key}"}), 401),
    Case("key changed", ("POST", "/key/update", {"key": "{key}", "models": ["other"]}), 403),
    Case("key deleted", ("POST", "/key/delete", {"keys": ["{key}"]}), 401),
    Case("key regenerated", ("POST", "/key/regenerate", {"key": "{key}"}), 401),
    Case(
        "user changed",
        ("POST", "/user/update", {"user_id": "alice", "models": ["other"]}),
        403,
        key={"user_id": "alice"},
    ),
    Case("user deleted", ("POST", "/user/delete", {"user_ids": ["alice"]}), 401, key={"user_id": "alice"}),
    Case("team blocked", ("POST", "/team/block", {"team_id": "crew"}), 401, key={"team_id": "crew"}),
    Case("team deleted", ("POST", "/team/delete", {"team_ids": ["crew"]}), 401, key={"team_id": "crew"}),
    Case(
        "member changed", ("POST", "/team/member_update", {**_IN_TEAM, "allowed_models": ["other"]}), 403, key=_IN_TEAM
    ),
    Case("member removed", ("POST", "/team/member_delete", _IN_TEAM), 401, key=_IN_TEAM),
    Case(
        "budget of all members",
        ("POST", "/team/update", {"team_id": "crew", "team_member_rpm_limit": 0}),
        429,
        key=_IN_TEAM,
    ),
    Case(
        "organization changed",
        ("PATCH", "/organization/update", {"organization_id": "acme", "models": ["other"]}),
        403,
        key={"organization_id": "acme"},
    ),
    Case(
        "budget of an organization",
        ("PATCH", "/organization/update", {"organization_id": "acme", "rpm_limit": 0}),
        429,
        key={"organization_id": "acme"},
    ),
    Case(
        "organization deleted",
        ("DELETE", "/organization/delete", {"organization_ids": ["acme"]}),
        401,
        key={"organization_id": "acme"},
    ),
    Case(
        "budget changed",
        ("POST", "/budget/update", {"budget_id": "small", "rpm_limit": 0}),
        429,
        key={"budget_id": "small"},
    ),
    Case(
        "budget deleted",
        ("POST", "/budget/delete", {"id": "none", "force": True}),
        200,
        before=429,
        key={"budget_id": "none"},
    ),
    Case("end user created", ("POST", "/customer/new", {"user_id": "new", "blocked": True}), 403, call={"user": "new"}),
    Case("end user blocked", ("POST", "/customer/block", {"user_ids": ["client"]}), 403, call={"user": "client"}),
    Case("end user freed", ("POST", "/customer/unblock", {"user_ids": ["bad"]}), 200, before=403, call={"user": "bad"}),
    Case(
        "end user deleted", ("POST", "/customer/delete", {"user_ids": ["bad"]}), 200, before=403, call={"user": "bad"}
    ),
    Case(
        "tag changed", ("POST", "/tag/update", {"name": "t", "max_budget": 0}), 422, call={"metadata": {"tags": ["t"]}}
    ),
    Case("budget of an access group", ("PUT", "/access_group/beta/budget", {"max_budget": 0}), 422),
    Case("deployment added", ("POST", "/model/new", {"model_name": "more"}), 200, before=400, call={"model": "more"}),
    Case("deployment blocked", ("POST", "/model/block", {"id": "stored"}), 400, call={"model": "stored"}),
    Case("deployment deleted", ("POST", "/model/delete", {"id": "stored"}), 400, call={"model": "stored"}),
]


async def _cast(admin: Caller) -> None:
    """Everything that the cases change."""
    await admin.post("/user/new", user_id="alice", auto_create_key=False)
    await new_team(admin, team_id="crew", members_with_roles=[{"user_id": "alice", "role": "user"}])
    await new_organization(admin)
    for call in (
        admin.post("/budget/new", budget_id="small", max_budget=5),
        admin.post("/budget/new", budget_id="none", rpm_limit=0),
        admin.post("/customer/new", user_id="client"),
        admin.post("/customer/new", user_id="bad", blocked=True),
        admin.post("/tag/new", name="t"),
        admin.post("/model/new", **_deployment("stored")),
    ):
        answer = await call
        assert answer.status_code == 200, answer.text


def _deployment(name: str) -> dict[str, Any]:
    params = {"model": "openai/sample", "api_key": "none", "mock_response": "Ahoy"}
    return {"model_name": name, "litellm_params": params, "model_info": {"id": name}}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_change_holds_for_the_next_call(case: Case, admin: Caller, recorder: Recorder) -> None:
    await _cast(admin)
    key = await admin.new_key(**case.key)
    caller = Caller(admin.client, key["key"])
    body = {"model": "sample", "messages": [{"role": "user", "content": "Hi"}], **case.call}
    assert (await caller.post("/v1/chat/completions", **body)).status_code == case.before
    recorder.messages.clear()
    method, path, sent = case.change
    if path == "/model/new":
        sent = _deployment(sent["model_name"])
    changed = await send(admin, method, path, **_with_key(sent, key["token"]))
    assert changed.status_code == 200, changed.text
    answer = await caller.post("/v1/chat/completions", **body)
    assert answer.status_code == case.status, answer.text
    assert recorder.messages, "other processes are told too"


def _with_key(sent: Any, token: str) -> Any:
    if isinstance(sent, dict):
        return {name: _with_key(value, token) for name, value in sent.items()}
    return [_with_key(value, token) for value in sent] if isinstance(sent, list) else token if sent == "{key}" else sent


async def test_an_access_group_holds_for_the_next_call(admin: Caller) -> None:
    created = await admin.post("/v1/access_group", access_group_name="g", access_model_names=["sample"])
    group = created.json()["access_group_id"]
    key = Caller(admin.client, (await admin.new_key(models=["another"], access_group_ids=[group]))["key"])
    body = {"model": "sample", "messages": [{"role": "user", "content": "Hi"}]}
    assert (await key.post("/v1/chat/completions", **body)).status_code == 200
    await send(admin, "PUT", f"/v1/access_group/{group}", access_model_names=["other"])
    assert (await key.post("/v1/chat/completions", **body)).status_code == 403
    await send(admin, "PUT", f"/v1/access_group/{group}", access_model_names=["sample"])
    assert (await key.post("/v1/chat/completions", **body)).status_code == 200
    await send(admin, "DELETE", f"/v1/access_group/{group}")
    assert (await key.post("/v1/chat/completions", **body)).status_code == 403


async def test_the_role_in_an_organization_holds_for_the_next_call(admin: Caller, alice: Caller) -> None:
    await new_organization(admin)
    named = {"organization_id": "acme", "user_id": "alice"}
    member = {"user_id": "alice", "role": "internal_user"}
    await admin.post("/organization/member_add", organization_id="acme", member=member)

    async def may_administer() -> bool:
        return (await alice.get("/team/list", organization_id="acme")).status_code == 200

    assert not await may_administer()
    await send(admin, "PATCH", "/organization/member_update", **named, role="org_admin")
    assert await may_administer()
    await send(admin, "DELETE", "/organization/member_delete", **named)
    assert not await may_administer()


async def test_a_credential_holds_for_the_deployments_that_name_it(admin: Caller, services: Services) -> None:
    values = {"api_key": "sk-1", "api_base": "https://one.example/v1"}
    await admin.post("/credentials", credential_name="shared", credential_values=values)
    params = {"model": "openai/sample", "litellm_credential_name": "shared"}
    await admin.post("/model/new", model_name="more", litellm_params=params, model_info={"id": "more"})
    values = {"api_base": "https://two.example/v1"}
    changed = await send(admin, "PATCH", "/credentials/shared", credential_values=values)
    assert changed.status_code == 200, changed.text
    deployment = services.deployments.by_id("more")
    assert deployment is not None
    assert deployment.api_base == "https://two.example/v1"


async def test_stored_settings_are_read_again(admin: Caller, services: Services, recorder: Recorder) -> None:
    reloads: list[bool] = []
    services.reload_soon = lambda: reloads.append(True)
    answer = await admin.post("/config/update", router_settings={"num_retries": 3})
    assert answer.status_code == 200, answer.text
    assert (recorder.messages, reloads) == (["config"], [True])


async def test_every_key_is_forgotten_once_when_all_spend_is_reset(
    admin: Caller, services: Services, recorder: Recorder
) -> None:
    await admin.new_key(spend=3)
    await admin.new_key(spend=4)
    await new_team(admin, team_id="crew")
    with services.database.active():
        await Team.filter(team_id="crew").update(spend=5)
    recorder.messages.clear()
    answer = await admin.post("/global/spend/reset")
    assert (answer.json()["keys"], answer.json()["teams"]) == (2, 1)
    assert recorder.messages == ["all"]


async def test_many_new_members_are_announced_once(admin: Caller, recorder: Recorder) -> None:
    await new_team(admin, team_id="crew")
    recorder.messages.clear()
    members = [{"user_id": f"user-{number}"} for number in range(5)]
    answer = await admin.post("/team/bulk_member_add", team_id="crew", members=members)
    assert answer.json()["successful_additions"] == 5
    assert recorder.messages.count("team:crew") == 1


# ---- a transaction that fails --------------------------------------------------------------------------------------


async def test_nothing_is_announced_when_the_last_member_cannot_be_added(admin: Caller, recorder: Recorder) -> None:
    await new_team(admin, team_id="crew", members_with_roles=[{"user_id": "bob", "role": "user"}])
    recorder.messages.clear()
    answer = await admin.post("/team/member_add", team_id="crew", member=[{"user_id": "new"}, {"user_id": "bob"}])
    assert answer.status_code == 400
    assert recorder.messages == []
    assert (await admin.get("/user/info", user_id="new")).status_code == 404


async def test_nothing_is_announced_when_a_key_of_a_new_user_is_refused(admin: Caller, recorder: Recorder) -> None:
    await admin.new_key(key_alias="taken")
    recorder.messages.clear()
    answer = await admin.post("/user/new", user_id="late", key_alias="taken")
    assert answer.status_code == 400
    assert recorder.messages == []


async def test_nothing_is_announced_when_somebody_else_was_faster(admin: Caller, recorder: Recorder) -> None:
    key = await admin.new_key()
    await admin.post("/key/update", key=key["token"], rpm_limit=1)
    recorder.messages.clear()
    assert (await admin.post("/key/update", key=key["token"], rpm_limit=2, version=1)).status_code == 409
    assert recorder.messages == []


# ---- transactions --------------------------------------------------------------------------------------------------


async def test_announcements_wait_for_the_outermost_commit(instance: Quart, recorder: Recorder) -> None:
    async with instance.app_context():
        async with transaction():
            async with transaction():
                await create_row(User, user_id="alice")
            await create_row(VirtualKey, token="t", key_name="k")
            assert recorder.messages == []
        assert recorder.messages == ["user:alice", "key:t"]


async def test_a_rollback_to_a_savepoint_takes_its_announcements_along(instance: Quart, recorder: Recorder) -> None:
    async with instance.app_context():
        async with transaction():
            await create_row(User, user_id="alice")
            with pytest.raises(LookupError, match="on purpose"):
                async with transaction():
                    await create_row(User, user_id="bob")
                    raise LookupError("on purpose")
        assert recorder.messages == ["user:alice"]
        with services_of(instance).database.active():
            assert [user.user_id for user in await User.all()] == ["alice"]


async def test_a_row_that_belongs_to_another_concerns_whom_that_one_concerns(
    instance: Quart, recorder: Recorder
) -> None:
    async with instance.app_context():
        async with transaction():
            user = await create_row(User, owners=(), user_id="alice")
            await create_row(TeamMembership, owners=[user], team_id="crew", user_id="alice")
        assert recorder.messages == ["user:alice"]


async def test_rows_that_nobody_counted_concern_every_key(instance: Quart, recorder: Recorder) -> None:
    async with instance.app_context():
        async with transaction():
            await update_rows(User.filter(user_id="nobody"), user_alias="x")
        assert recorder.messages == []
        async with transaction():
            await create_row(User, owners=(), user_id="alice")
            await update_rows(User.all(), user_alias="x")
        assert recorder.messages == ["all"]


async def test_what_was_committed_is_announced_when_a_later_transaction_fails(
    instance: Quart, recorder: Recorder
) -> None:
    async with instance.app_context():
        with pytest.raises(LookupError, match="on purpose"):
            async with announced_once():
                async with transaction():
                    await create_row(Tag, tag_name="first")
                async with transaction():
                    await create_row(User, user_id="bob")
                    raise LookupError("on purpose")
        assert recorder.messages == ["all"]


async def test_a_row_cannot_be_written_outside_a_transaction(instance: Quart) -> None:
    async with instance.app_context():
        with services_of(instance).database.active(), pytest.raises(LookupError):
            await create_row(User, user_id="alice")
