"""Keys, their limits and their budgets over a real socket."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from tests.llm.live_worker import FAST, ONCE, LiveWorker, error_of
from tests.services.quarterdeck import QuarterdeckFactory
from tests.upstream import Reply, ScriptedUpstream, Usage


def unique(name: str) -> str:
    return f"{name}-{uuid4().hex[:8]}"


# ---- keys ----------------------------------------------------------------------------------------------------------


async def test_without_a_key_there_is_no_answer(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    error = error_of(await worker.chat(None), 401)
    assert (error["type"], error["param"]) == ("auth_error", "None")
    assert error["message"] == "Authentication Error, No api key passed in."
    assert upstream.requests == []


@pytest.mark.parametrize("value", ["sk-raw-key-without-scheme", "Bearer", "Digest sk-x", ""])
async def test_a_key_without_its_scheme_is_malformed(worker: LiveWorker, value: str) -> None:
    error = error_of(await worker.chat(None, headers={"Authorization": value}), 401)
    assert error["message"].endswith("Malformed API Key passed in. Ensure Key has `Bearer ` prefix.")


async def test_a_key_of_the_wrong_kind_is_not_repeated(worker: LiveWorker) -> None:
    error = error_of(await worker.chat("pk-secret-of-something-else"), 401)
    assert "expected to start with 'sk-'" in error["message"] and "secret-of" not in error["message"]


async def test_an_unknown_key(worker: LiveWorker) -> None:
    error = error_of(await worker.chat("sk-unknown-secret-tail"), 401)
    assert (error["type"], error["param"]) == ("token_not_found_in_db", "key")
    assert "sk-...tail" in error["message"] and "unknown-secret" not in error["message"]


async def test_the_master_key_may_call_models(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    assert (await worker.chat(worker.process.master_key)).status_code == 200


async def test_an_expired_key(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await worker.new_key(duration="1s")
    assert (await worker.chat(key)).status_code == 200
    await asyncio.sleep(1.1)
    error = error_of(await worker.chat(key), 401)
    assert error["type"] == "expired_key" and error["param"].startswith("sk-...")
    assert key not in error["message"]
    assert len(upstream.requests) == 1


async def test_a_blocked_key_is_refused_from_the_next_call_on(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await worker.new_key()
    assert (await worker.chat(key)).status_code == 200
    await worker.manage("/key/block", key=key)
    error = error_of(await worker.chat(key), 401)
    assert error["type"] == "auth_error" and "Key is blocked" in error["message"]
    await worker.manage("/key/unblock", key=key)
    assert (await worker.chat(key)).status_code == 200


async def test_a_deleted_key_is_unknown_from_the_next_call_on(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await worker.new_key()
    assert (await worker.chat(key)).status_code == 200
    await worker.manage("/key/delete", keys=[key])
    assert error_of(await worker.chat(key), 401)["type"] == "token_not_found_in_db"


async def test_a_key_that_may_only_manage(worker: LiveWorker) -> None:
    answer = await worker.chat(await worker.new_key(allowed_routes=["/key/info"]))
    assert answer.status_code == 403
    assert "Virtual key is not allowed to call this route" in answer.json()["detail"]


# ---- models --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("models", "allowed", "denied"),
    [
        ([], ["chat", "team/nested"], []),
        (["chat"], ["chat"], ["unpriced", "team/nested"]),
        (["team/*"], ["team/nested"], ["chat"]),
        (["*"], ["chat", "team/nested"], []),
        (["no-default-models"], [], ["chat"]),
    ],
)
async def test_a_key_s_models(
    worker: LiveWorker, upstream: ScriptedUpstream, models: list[str], allowed: list[str], denied: list[str]
) -> None:
    key = await worker.new_key(models=models)
    for model in allowed:
        assert (await worker.chat(key, model)).status_code == 200
    for model in denied:
        error = error_of(await worker.chat(key, model), 403)
        assert (error["type"], error["param"]) == ("key_model_access_denied", "model")
        assert f"The requested model '{model}' is not available for this API key" in error["message"]
    assert len(upstream.requests) == len(allowed)


async def test_a_team_s_models_bound_its_keys(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    team = await worker.manage("/team/new", team_alias=unique("research"), models=["chat"])
    for models in ([], ["all-team-models"], ["chat", "unpriced"]):
        key = await worker.new_key(team_id=team["team_id"], models=models)
        assert (await worker.chat(key)).status_code == 200
        assert error_of(await worker.chat(key, "unpriced"), 403)["type"] == "team_model_access_denied"


async def test_a_user_s_models_bound_their_own_keys(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    user = await worker.manage("/user/new", user_id=unique("alice"), models=["chat"], auto_create_key=False)
    key = await worker.new_key(user_id=user["user_id"])
    assert (await worker.chat(key)).status_code == 200
    assert error_of(await worker.chat(key, "unpriced"), 403)["type"] == "user_model_access_denied"


async def test_an_alias_of_a_key_is_a_name_for_a_model(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await worker.new_key(models=["chat"], aliases={"my-model": "chat", "forbidden": "unpriced"})
    assert (await worker.chat(key, "my-model")).json()["model"] == "my-model"
    error_of(await worker.chat(key, "forbidden"), 403)
    assert (await worker.spend_row(key))["model_group"] in ("chat", "my-model")


async def test_an_unknown_model_is_400(worker: LiveWorker, key: str) -> None:
    error = error_of(await worker.chat(key, "nope"), 400)
    assert (error["type"], error["param"]) == ("invalid_request_error", "model")
    assert "You passed in model=nope" in error["message"]


# ---- money ---------------------------------------------------------------------------------------------------------


async def test_a_budget_of_zero_blocks_calls_and_nothing_else(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await worker.new_key(max_budget=0)
    error = error_of(await worker.chat(key), 422)
    assert (error["type"], error["param"]) == ("budget_exceeded", None)
    assert error["message"].startswith("Budget has been exceeded! Key=sk-...")
    assert error["message"].endswith("Current cost: 0, Max budget: 0")
    assert (await worker.chat(key, "free")).status_code == 200
    own = {"Authorization": f"Bearer {key}"}
    assert (await worker.http.get(f"{worker.url}/key/info", headers=own)).status_code == 200
    assert (await worker.http.get(f"{worker.url}/v1/models", headers=own)).status_code == 200


async def test_a_spent_budget_refuses_the_next_call_at_once(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await worker.new_key(max_budget=0.013, key_alias=unique("nightly"))
    upstream.plan(Reply(usage=Usage(9, 2)))
    assert (await worker.chat(key, "costly")).status_code == 200
    error = error_of(await worker.chat(key, "costly"), 422)
    assert "Key=nightly-" in error["message"]
    assert "Current cost: 0.013, Max budget: 0.013" in error["message"]
    await worker.manage("/key/update", key=key, max_budget=1)
    assert (await worker.chat(key, "costly")).status_code == 200


async def test_calls_at_the_same_time_do_not_overdraw(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    """Each call holds about two dollars until it is settled, so that a budget of three admits two at once."""
    key = await worker.new_key(max_budget=3)
    upstream.on_model("gpt-4o-mini", Reply(delay=0.4))
    answers = await asyncio.gather(*(worker.chat(key, "costly") for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [422] * 18
    assert (await worker.chat(key, "costly")).status_code == 200  # nothing is held any more
    assert len(await worker.spend_rows(key, 3)) == 3


async def test_a_call_that_asks_for_many_answers_holds_all_of_them(
    worker: LiveWorker, upstream: ScriptedUpstream
) -> None:
    key = await worker.new_key(max_budget=3)
    upstream.on_model("gpt-4o-mini", Reply(delay=0.4))
    answers = await asyncio.gather(*(worker.chat(key, "costly", n=5, max_tokens=500) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] + [422] * 9


@pytest.mark.parametrize("kind", ["team", "user"])
async def test_a_budget_of_team_or_user_bounds_all_their_keys(
    worker: LiveWorker, upstream: ScriptedUpstream, kind: str
) -> None:
    fields: dict[str, Any] = {"team_alias": unique("t")} if kind == "team" else {"user_id": unique("bob")}
    made = await worker.manage(f"/{kind}/new", max_budget=0.01, **fields)
    owner = {f"{kind}_id": made[f"{kind}_id"]}
    first, second = await worker.new_key(**owner), await worker.new_key(**owner)
    assert (await worker.chat(first, "costly")).status_code == 200
    for key in (first, second):
        assert f"{kind.title()}={made[f'{kind}_id']}" in error_of(await worker.chat(key, "costly"), 422)["message"]


async def test_failed_calls_cost_nothing(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await worker.new_key(max_budget=5)
    for _ in range(10):
        error_of(await worker.chat(key, "refused", headers=ONCE), 500)
    assert Decimal(str((await worker.key_info(key))["spend"])) == 0


async def test_rate_limits_are_the_contract_s_429(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await worker.new_key(rpm_limit=2)
    answers = [await worker.chat(key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert error_of(answers[2], 429)["type"] == "throttling_error"
    assert int(answers[2].headers["retry-after"]) <= 60 and answers[2].headers["rate_limit_type"] == "requests"
    assert answers[0].headers["x-ratelimit-api_key-remaining-requests"] == "1"


async def test_the_status_of_an_exceeded_budget_is_a_setting(
    worker: LiveWorker, factory: QuarterdeckFactory, model_list: list[dict[str, Any]]
) -> None:
    config = {"model_list": model_list, "litellm_settings": {"budget_exceeded_status_code": 429}}
    other = LiveWorker(factory(config, env=FAST), worker.http)
    error = error_of(await other.chat(await other.new_key(max_budget=0)), 429)
    assert error["type"] == "budget_exceeded"
