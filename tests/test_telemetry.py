"""Logs never show what looks like a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.telemetry import redact
from tests.services.quarterdeck import QuarterdeckFactory

_TAILS = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789_-", min_size=8, max_size=60)


@given(tail=_TAILS)
@pytest.mark.parametrize("prefix", ["sk-", "Bearer ", "Basic ", "eyJ"])
def test_a_secret_is_cut_out_wherever_it_stands(prefix: str, tail: str) -> None:
    event = redact(None, "info", {"event": f"refused {prefix}{tail} twice", "key": f"{prefix}{tail}", "count": 3})
    assert tail not in str(event)
    assert event["count"] == 3


def test_plain_words_stay_as_they_are() -> None:
    event = {"event": "database migrated", "migrations": "0001_initial", "reason": "sk-short"}
    assert redact(None, "info", dict(event)) == event


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
