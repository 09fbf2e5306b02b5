"""Secrets among stored settings: encrypted, masked, and never moved to another address."""

from __future__ import annotations

import json

import pytest

from app.security.encrypted_settings import decrypted, encrypted, has_mask, with_stored_secrets
from app.security.masking import MASK, masked

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


def test_encrypted_secrets_are_masked_like_those_in_the_clear() -> None:
    assert masked(encrypted(SETTINGS, SALT)) == masked(SETTINGS)
    assert masked(encrypted({"PLAIN": "x"}, SALT, is_whole=True)) == {"PLAIN": MASK}


def test_what_another_salt_key_encrypted_stays_as_it_is() -> None:
    stored = encrypted(SETTINGS, SALT)
    assert decrypted(stored, "another-salt") == stored
    assert encrypted(decrypted(stored, "another-salt"), "another-salt") == stored


def test_a_mask_that_is_sent_back_keeps_the_secret() -> None:
    stored = SETTINGS["cache_params"]
    assert with_stored_secrets(MASK, "old") == "old"
    assert with_stored_secrets({"host": "redis.example", "password": MASK, "ttl": 5}, stored) == {
        "host": "redis.example",
        "password": "hunter22",
        "ttl": 5,
    }


def test_an_address_that_is_a_secret_is_kept_too() -> None:
    stored = {"url": "redis://:hunter22@redis.example:6379/0", "ttl": 60}
    assert with_stored_secrets({"url": MASK, "ttl": 5}, stored) == {**stored, "ttl": 5}
    with pytest.raises(ValueError, match="address"):
        with_stored_secrets({"url": MASK, "host": "evil.example"}, stored)


def test_a_secret_does_not_follow_to_another_address() -> None:
    with pytest.raises(ValueError, match="address"):
        with_stored_secrets({"host": "evil.example", "password": MASK}, SETTINGS["cache_params"])
    with pytest.raises(ValueError, match="list"):
        with_stored_secrets([{"headers": MASK}], SETTINGS["pass_through_endpoints"])
    assert has_mask([{"headers": {"a": MASK}}])
    assert not has_mask(SETTINGS)
