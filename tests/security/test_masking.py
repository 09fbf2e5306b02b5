"""One table of secrets for settings, audit rows, deployments and logs: what it hides and what it shows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.security.masking import (
    MASK,
    is_audit_secret,
    is_log_secret,
    is_provider_secret,
    is_secret,
    masked,
    masked_text,
)
from tests.source_files import python_files, tree_of

SETTINGS = {
    "request_timeout": 30,
    "user_api_key_cache_ttl": 60,
    "alert_to_webhook_url": {"budget_alerts": "https://hooks.example/T0/B0/xyz"},
    "cache_params": {"host": "redis.example", "password": "hunter22"},
    "pass_through_endpoints": [{"path": "/a", "headers": {"Authorization": "Bearer abc"}}],
}
# Names under which each of the four places hides a value.
SECRET_NAMES = [
    "password",
    "UI_PASSWORD",
    "client_secret",
    "aws_secret_access_key",
    "aws_access_key_id",
    "api_key",
    "x-api-key",
    "apikey",
    "private_key",
    "master_key",
    "salt_key",
    "credentials",
    "vertex_credentials",
    "Authorization",
    "cookie",
    "azure_ad_token",
    "aws_session_token",
    "extra_headers",
    "SLACK_WEBHOOK_URL",
    "database_url",
    "redis_url",
    "redis_startup_nodes",
]


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_secret_of_one_place_is_a_secret_of_all(name: str) -> None:
    assert is_secret(name, "x")
    assert is_audit_secret(name, "x")
    assert is_provider_secret(name)
    assert is_log_secret(name)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("master_key_password", "x", True),
        ("max_tokens", 5, False),
        ("url", "redis://:hunter22@redis.example:6379/0", True),
        ("api_base", "https://somebody:hunter22@example.com", True),
        ("url", "redis://redis.example:6379/0", False),
        ("target", "https://example.com/a:b@c", False),
        ("disable_env_credential_login", True, False),
        ("password_policy_min_length", 8, False),
        ("default_api_key_tpm_limit", "5", False),
        ("extra_spend_tag_headers", ["x-team"], False),
        ("key_generation_settings", {"a": 1}, False),
        ("api_key", "", False),
        ("api_key", None, False),
    ],
)
def test_a_name_tells_whether_a_setting_is_secret(name: str, value: object, expected: bool) -> None:
    assert is_secret(name, value) is expected


def test_secrets_are_masked_at_any_depth_and_nothing_else() -> None:
    assert masked(SETTINGS) == {
        **SETTINGS,
        "alert_to_webhook_url": MASK,
        "cache_params": {"host": "redis.example", "password": MASK},
        "pass_through_endpoints": [{"path": "/a", "headers": MASK}],
    }
    assert masked({"ANY": "value"}, is_whole=True) == {"ANY": MASK}
    assert masked({"any": "encrypted:abc"}) == {"any": MASK}


def test_the_audit_log_hides_numbers_under_the_name_of_a_secret_and_shows_prices_and_hashes() -> None:
    params = {"api_key": 123456, "database_secret_ttl": 7, "extra_headers": {"x-gate": "s"}}
    assert set(masked(params, is_secret=is_audit_secret).values()) == {MASK}
    prices = {"input_cost_per_token": 1, "cache_read_input_token_cost": 2, "max_tokens": 3, "token": "hash"}
    assert masked(prices, is_secret=is_audit_secret) == prices
    deep = {"a": [{"pin_password": 5}], "max_tokens": 5}
    assert masked(deep, is_secret=is_audit_secret) == {"a": [{"pin_password": MASK}], "max_tokens": 5}


def test_parameters_for_a_provider_are_secret_by_shorter_words() -> None:
    hidden = ("subscription-key", "tokens", "max_completion_tokens", "KEY", "bearer_token")
    assert [name for name in hidden if not is_provider_secret(name)] == []
    plain = ("model", "max_tokens", "input_cost_per_token", "output_cost_per_token", "litellm_credential_name")
    assert [name for name in (*plain, "cache_read_input_token_cost") if is_provider_secret(name)] == []


def test_a_log_line_hides_tokens_and_shows_counts_of_them() -> None:
    assert is_log_secret("token") and is_log_secret("X-Api-Key")
    assert not any(
        is_log_secret(name) for name in ("event", "setting", "prompt_tokens", "key_hash", "url", "credential_name")
    )


@given(tail=st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789", min_size=16, max_size=40))
@pytest.mark.parametrize("prefix", ["sk-", "Bearer ", "Basic ", "eyJ", "gsk_", "ya29."])
def test_a_text_loses_what_looks_like_a_secret(prefix: str, tail: str) -> None:
    assert masked_text(f"refused {prefix}{tail}.") in (f"refused {prefix}{MASK}", f"refused {prefix}{MASK}.")


def test_a_text_keeps_the_address_and_loses_its_password() -> None:
    text = "redis://harbour:hunter2@cache:6379/0 refused sk-short"
    assert masked_text(text) == f"redis://harbour:{MASK}@cache:6379/0 refused sk-short"


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from([*SECRET_NAMES, "model", "tags"])
    return st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), _containers))
def test_a_masked_value_holds_no_more_secrets(value: Any) -> None:
    once = masked(value, is_secret=is_audit_secret)
    assert masked(once, is_secret=is_audit_secret) == once


# ---- the only table ------------------------------------------------------------------------------------------------

# Words that no list holds together but one that tells secrets by their names.
TELLING_WORDS = {"password", "secret", "api_key", "apikey", "private_key", "authorization", "credential", "token"}
TABLE = Path("app/security/masking.py")


def _words_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        yield from (str(item.value) for item in node.elts if isinstance(item, ast.Constant))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "split":
        yield from str(node.func.value.value).split() if isinstance(node.func.value, ast.Constant) else ()


def test_no_second_table_of_secret_words_exists() -> None:
    """Two tables drift: what one place hides, the other would show."""
    tables = {
        (path, node.lineno)
        for path in python_files("app", "tools")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.expr) and len(TELLING_WORDS & {word.lower() for word in _words_of(node)}) >= 3
    }
    assert {path for path, _ in tables} == {TABLE}, sorted(f"{path}:{line}" for path, line in tables)
