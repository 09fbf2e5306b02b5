"""Logs: lines for people or JSON, each with the id of its request, and never with what looks like a secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from app.logs import bind_request, configure_logging, redact
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess

_TAILS = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789_-", min_size=8, max_size=60)
_PROVIDER_KEYS = [
    "sk-ant-api03-0123456789abcdef",
    "AIzaSyA-0123456789abcdefghijklmnopqrstuv",
    "gsk_0123456789abcdefghij",
    "xai-0123456789abcdefghij",
    "hf_0123456789abcdefghij",
    "AKIAIOSFODNN7EXAMPLE",
    "pk-lf-01234567-89ab-cdef",
    "ya29.a0AfH6SMBexample0123",
]


@given(tail=_TAILS)
@pytest.mark.parametrize("prefix", ["sk-", "Bearer ", "Basic ", "eyJ"])
def test_a_secret_is_cut_out_wherever_it_stands(prefix: str, tail: str) -> None:
    event = redact(None, "info", {"event": f"refused {prefix}{tail} twice", "key": f"{prefix}{tail}", "count": 3})
    assert tail not in str(event)
    assert event["count"] == 3


@pytest.mark.parametrize("key", _PROVIDER_KEYS)
def test_keys_of_providers_are_cut_out_also_inside_lists_and_mappings(key: str) -> None:
    event = redact(None, "info", {"event": f"sent {key}.", "rows": [{"header": ("x", key)}]})
    assert key not in str(event) and key[8:] not in str(event)


def test_what_is_named_a_secret_is_cut_out_whatever_it_looks_like() -> None:
    event = redact(None, "info", {"event": "x", "password": "hunter2", "row": {"Authorization": "raw"}})
    assert event == {"event": "x", "password": "****", "row": {"Authorization": "****"}}


def test_a_password_in_an_address_is_cut_out() -> None:
    event = redact(None, "info", {"event": "postgresql://harbour:hunter2@db:5432/x is away"})
    assert event["event"] == "postgresql://harbour:****@db:5432/x is away"


def test_plain_words_stay_as_they_are() -> None:
    event = {"event": "database migrated", "migrations": "0001_initial", "reason": "sk-short"}
    assert redact(None, "info", dict(event)) == event


# ---- lines ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh_logging() -> Iterator[None]:
    """What a test configures must not stay."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.basicConfig(handlers=handlers, level=level, force=True)


@pytest.mark.usefixtures("fresh_logging")
def test_lines_of_ours_and_of_libraries_are_json_objects_without_the_texts_of_errors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("INFO", is_json=True)
    bind_request("request-7")
    try:
        raise ValueError("what a client sent")
    except ValueError:
        structlog.get_logger("ours").error("it broke", exc_info=True)
        logging.getLogger("theirs").exception("they broke for %s", "Bearer 0123456789abcdef")
    finally:
        bind_request("")
    structlog.get_logger("ours").debug("too low")
    ours, theirs = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (ours["event"], ours["level"], ours["error"], ours["request_id"]) == (
        "it broke",
        "error",
        "ValueError",
        "request-7",
    )
    assert (theirs["event"], theirs["level"], theirs["error"]) == ("they broke for Bearer ****", "error", "ValueError")
    assert "what a client sent" not in str([ours, theirs])


def _worker(factory: QuarterdeckFactory, **env: str) -> QuarterdeckProcess:
    params = {"model": "openai/x", "api_key": "sk-provider-key-0123456789", "mock_response": "Ahoy"}
    failing = {**params, "mock_response": "litellm.RateLimitError"}
    models = [
        {"model_name": "chat", "litellm_params": params},
        {"model_name": "limited", "litellm_params": failing, "model_info": {"id": "limited-1"}},
    ]
    return factory({"model_list": models}, env=env)


def _call(instance: QuarterdeckProcess, model: str, id: str) -> int:
    headers = {"Authorization": f"Bearer {instance.master_key}", "x-litellm-call-id": id}
    body = {"model": model, "messages": [{"role": "user", "content": "a prompt that nobody logs"}]}
    return httpx.post(f"{instance.url}/v1/chat/completions", json=body, headers=headers, trust_env=False).status_code


def _lines(instance: QuarterdeckProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in instance.log_text().splitlines() if line.startswith("{")]


def test_a_failed_call_leaves_one_line_with_its_id_and_a_good_one_none(
    quarterdeck_process: QuarterdeckFactory,
) -> None:
    instance = _worker(quarterdeck_process, JSON_LOGS="true")
    assert _call(instance, "chat", "good-call") == 200
    assert _call(instance, "limited", "bad-call") == 429
    assert _call(instance, "unknown", "refused-call") == 400
    by_id = {line["request_id"]: line for line in _lines(instance) if "request_id" in line}
    assert set(by_id) == {"bad-call", "refused-call"}
    failed, refused = by_id["bad-call"], by_id["refused-call"]
    assert (failed["level"], failed["event"], failed["error"]) == ("warning", "call failed", "RateLimitError")
    assert (failed["status"], failed["model"], failed["deployment"]) == (429, "limited", "limited-1")
    assert (refused["event"], refused["status"]) == ("call refused", 400)
    assert "nobody logs" not in instance.log_text()


def test_at_debug_a_good_call_leaves_a_line_too(quarterdeck_process: QuarterdeckFactory) -> None:
    instance = _worker(quarterdeck_process, LITELLM_LOG="debug")
    assert _call(instance, "chat", "good-call") == 200
    (line,) = [line for line in instance.log_text().splitlines() if "good-call" in line]
    assert "[debug" in line and "call answered" in line and "nobody logs" not in instance.log_text()


def test_no_secret_of_a_start_and_of_calls_reaches_the_log(quarterdeck_process: QuarterdeckFactory) -> None:
    provider_key = "sk-provider-key-0123456789"
    params = {"model": "openai/x", "api_key": provider_key, "mock_response": "Ahoy"}
    instance = quarterdeck_process(
        {"model_list": [{"model_name": "chat", "litellm_params": params}]},
        env={"UI_PASSWORD": "password-of-the-admin", "LITELLM_SALT_KEY": "salt-of-the-test"},
    )
    instance.restart()
    for secret in (provider_key, instance.master_key, "password-of-the-admin", "salt-of-the-test"):
        assert secret not in instance.log_text()
