"""Secrets among stored settings: told by name, encrypted, masked out, and never moved to another address."""

from __future__ import annotations

import json

import pytest

from app.security.encrypted_settings import MASK, decrypted, encrypted, has_mask, is_secret, shown, with_kept_secrets

SALT = "salt-of-the-tests"
SETTINGS = {
    "request_timeout": 30,
    "user_api_key_cache_ttl": 60,
    "alert_to_webhook_url": {"budget_alerts": "https://hooks.example/T0/B0/xyz"},
    "cache_params": {"host": "redis.example", "password": "hunter22"},
    "pass_through_endpoints": [{"path": "/a", "headers": {"Authorization": "Bearer abc"}}],
}


def test_secrets_are_encrypted_at_any_depth_and_come_back() -> None:
    stored = encrypted(SETTINGS, SALT)
    text = json.dumps(stored)
    assert all(word not in text for word in ("hunter22", "hooks.example", "Bearer abc"))
    assert stored["request_timeout"] == 30
    assert stored["cache_params"]["host"] == "redis.example"
    assert decrypted(stored, SALT) == SETTINGS


def test_secrets_are_starred_out_encrypted_or_not() -> None:
    for value in (SETTINGS, encrypted(SETTINGS, SALT)):
        text = json.dumps(shown(value))
        assert all(word not in text for word in ("hunter22", "hooks.example", "Bearer abc", "encrypted:"))
        assert shown(value)["user_api_key_cache_ttl"] == 60
    assert shown({"ANY": "value"}, is_whole=True) == {"ANY": MASK}


def test_what_another_salt_key_encrypted_stays_as_it_is() -> None:
    stored = encrypted(SETTINGS, SALT)
    assert decrypted(stored, "another-salt") == stored
    assert encrypted(decrypted(stored, "another-salt"), "another-salt") == stored


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
        ("default_api_key_tpm_limit", "5", False),
        ("api_key", "", False),
        ("SLACK_WEBHOOK_URL", "https://x", True),
    ],
)
def test_a_name_tells_whether_a_value_is_secret(name: str, value: object, expected: bool) -> None:
    assert is_secret(name, value) is expected


def test_a_star_that_is_sent_back_keeps_the_secret() -> None:
    stored = SETTINGS["cache_params"]
    assert with_kept_secrets(MASK, "old") == "old"
    assert with_kept_secrets({"host": "redis.example", "password": MASK, "ttl": 5}, stored) == {
        "host": "redis.example",
        "password": "hunter22",
        "ttl": 5,
    }


def test_an_address_that_is_a_secret_is_kept_too() -> None:
    stored = {"url": "redis://:hunter22@redis.example:6379/0", "ttl": 60}
    assert with_kept_secrets({"url": MASK, "ttl": 5}, stored) == {**stored, "ttl": 5}
    with pytest.raises(ValueError, match="address"):
        with_kept_secrets({"url": MASK, "host": "evil.example"}, stored)


def test_a_secret_does_not_follow_to_another_address() -> None:
    with pytest.raises(ValueError, match="address"):
        with_kept_secrets({"host": "evil.example", "password": MASK}, SETTINGS["cache_params"])
    with pytest.raises(ValueError, match="list"):
        with_kept_secrets([{"headers": MASK}], SETTINGS["pass_through_endpoints"])
    assert has_mask([{"headers": {"a": MASK}}])
    assert not has_mask(SETTINGS)
