"""What a client is told of its call, in headers that are one line of ASCII each."""

from __future__ import annotations

from decimal import Decimal

from app.auth.principal import Principal
from app.auth.roles import Role
from app.deployments.deployment import build_deployment
from app.llm.answer_headers import answer_headers, attempt_headers
from app.llm.call import Call
from app.llm.call_spend import CallSpend
from app.llm.call_timing import CallTiming
from app.protocols.base import Usage
from app.protocols.openai.request import CHAT
from app.spend.budget import Reservation

_PARAMS = {"model": "openai/gpt\u00e4", "api_base": "http://a.example/v1", "input_cost_per_token": 0.5}


def headers(group: str = "chat", *, is_settled: bool = True, max_budget: Decimal | None = None) -> dict[str, str]:
    principal = Principal(role=Role.KEY_ONLY, key_hash="h", max_budget=max_budget)
    call = Call(principal=principal, endpoint=CHAT, path="/v1/chat/completions", body=b"{}", call_id="id-1")
    deployment = build_deployment("chat", _PARAMS, {"id": "d"}, {})
    spend = CallSpend(Reservation((), (), None))
    if is_settled:
        spend.settle(Usage(prompt_tokens=3), deployment.prices, is_cached=False)
    return answer_headers(call, group, deployment, CallTiming(), spend)


def test_an_answer_names_its_call_its_deployment_and_its_cost() -> None:
    told = headers()
    assert told["x-litellm-call-id"] == "id-1"
    assert told["x-litellm-model-id"] == "d"
    assert told["x-litellm-model-api-base"] == "http://a.example/v1"
    assert Decimal(told["x-litellm-response-cost"]) == Decimal("1.5")
    assert float(told["x-litellm-overhead-duration-ms"]) <= float(told["x-litellm-response-duration-ms"])


def test_the_cost_of_a_stream_is_not_known_when_it_begins() -> None:
    assert not [name for name in headers(is_settled=False) if "cost" in name]


def test_a_budget_is_told_to_who_has_one() -> None:
    assert "x-litellm-key-max-budget" not in headers()
    assert headers(max_budget=Decimal("2.50"))["x-litellm-key-max-budget"] == "2.50"


def test_any_name_becomes_one_line_of_ascii() -> None:
    told = headers("a\r\nb: c" + "x" * 400)
    assert all(value.isascii() and value.isprintable() for value in told.values())
    assert len(told["x-litellm-model-group"]) <= 255
    assert told["x-litellm-model-name"] == "openai/gpt\\xe4"


def test_attempts_are_counted_for_answers_and_errors() -> None:
    assert attempt_headers(retries=2, fallbacks=1) == {
        "x-litellm-attempted-retries": "2",
        "x-litellm-attempted-fallbacks": "1",
    }
