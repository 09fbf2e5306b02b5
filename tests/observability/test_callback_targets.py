"""Who is told of calls: the names of the settings, and what keys and teams bring along."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from app.observability.callback_targets import caller_target, configured_targets, named
from app.security.callback_credentials import encrypted_entry
from tests.observability.calls import settings

_LANGFUSE = {"langfuse_public_key": "pk-1", "langfuse_secret_key": "sk-1"}


def entry(name: str, kind: str = "success_and_failure", salt_key: str | None = None, **values: str) -> dict[str, Any]:
    return encrypted_entry(name, kind, values, salt_key or settings().salt_key)


def test_names_become_receivers_for_their_occasions() -> None:
    plan = configured_targets(
        settings(
            success_callback=("langfuse", "generic_api"),
            failure_callback=("langfuse",),
            callbacks=("own",),
            callback_settings={"own": {"callback_type": "generic_api", "endpoint": "https://a.example/x"}},
            generic_logger_endpoint="https://logs.example/in",
            generic_logger_headers=(("X-Key", "secret"),),
            **_LANGFUSE,
        )
    )
    assert (plan.unknown, plan.incomplete) == ((), ())
    own, langfuse, generic = plan.targets
    assert (own.url, own.on_success, own.on_failure) == ("https://a.example/x", True, True)
    assert langfuse.url == "https://cloud.langfuse.com/api/public/otel/v1/traces"
    assert langfuse.headers["Authorization"] == f"Basic {base64.b64encode(b'pk-1:sk-1').decode()}"
    assert (generic.url, generic.headers, generic.on_failure) == (
        "https://logs.example/in",
        {"X-Key": "secret"},
        False,
    )
    assert named(plan.targets) == {
        "success": ["generic_api"],
        "failure": [],
        "success_and_failure": ["own", "langfuse"],
    }
    assert "secret" not in repr(plan)
    assert "sk-1" not in repr(plan)


def test_names_that_nobody_knows_and_receivers_without_an_address_are_told_apart() -> None:
    plan = configured_targets(
        settings(callbacks=("datadog", "prometheus", "otel", "my_module.handler", "langfuse", "generic_api"))
    )
    assert plan.targets == ()
    assert plan.unknown == ("datadog", "my_module.handler")
    assert plan.incomplete == ("langfuse", "generic_api")


def test_a_wrong_address_or_header_is_incomplete_not_fatal() -> None:
    odd = {
        "a": {"endpoint": "ftp://x"},
        "b": {"endpoint": "https://x.example", "headers": {"X-A": "line\nbreak"}},
        "c": {"endpoint": "https://x.example", "callback_type": "other"},
    }
    plan = configured_targets(settings(callbacks=("a", "b", "c"), callback_settings=odd))
    assert (plan.incomplete, plan.unknown, plan.targets) == (("a", "b"), ("c",), ())


def test_a_key_sends_to_hosts_that_the_operator_named_only() -> None:
    allowing = settings(langfuse_host="https://lf.example", callback_hosts=("https://hook.example:8443",))
    langfuse = caller_target(entry("langfuse", "failure", **_LANGFUSE), allowing)
    assert langfuse is not None
    assert (langfuse.url, langfuse.on_success) == ("https://lf.example/api/public/otel/v1/traces", False)
    hook = caller_target(entry("webhook", endpoint="https://hook.example:8443/in", headers="X-A=1"), allowing)
    assert hook is not None
    assert (hook.headers, hook.kind) == ({"X-A": "1"}, "events")
    refused = (
        "https://hook.example/in",
        "http://hook.example:8443/in",
        "https://hook.example.evil:8443/in",
        "https://user@hook.example:8443/in",
        "http://169.254.169.254/latest",
        "hook.example:8443@evil.example",
    )
    for url in refused:
        assert caller_target(entry("webhook", endpoint=url), allowing) is None, url
        assert caller_target(entry("langfuse", langfuse_host=url, **_LANGFUSE), allowing) is None, url


@pytest.mark.parametrize("name", ["langfuse", "webhook", "datadog"])
def test_what_cannot_be_served_is_nobody(name: str) -> None:
    assert caller_target(entry(name), settings(langfuse_host="https://lf.example")) is None


def test_without_the_operators_word_a_key_sends_nowhere() -> None:
    assert caller_target(entry("langfuse", **_LANGFUSE), settings()) is None


def test_a_callback_of_another_salt_key_is_nobody() -> None:
    other = entry("langfuse", salt_key="another salt", **_LANGFUSE)
    assert caller_target(other, settings(langfuse_host="https://lf.example")) is None


def test_a_row_from_before_variables_were_encrypted_works() -> None:
    plain = {"callback_name": "langfuse", "callback_type": "success", "callback_vars": _LANGFUSE}
    assert caller_target(plain, settings(langfuse_host="https://lf.example")) is not None


def test_messages_can_be_turned_off_for_all_or_by_the_key() -> None:
    allowing = {"langfuse_host": "https://lf.example"}
    by_key = caller_target(entry("langfuse", turn_off_message_logging="True", **_LANGFUSE), settings(**allowing))
    by_operator = caller_target(
        entry("langfuse", turn_off_message_logging="false", **_LANGFUSE),
        settings(turn_off_message_logging=True, **allowing),
    )
    assert by_key is not None
    assert by_operator is not None
    assert (by_key.is_redacted, by_operator.is_redacted) == (True, True)
