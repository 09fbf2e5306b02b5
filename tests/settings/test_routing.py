"""Settings of routing as people write them, and what is wrong with them when it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings, load_settings
from app.settings.config_file import SettingsError
from app.settings.routing import STRATEGIES, FallbackTarget, fallback_groups, fallback_targets, retry_policy

KEY = {"LITELLM_MASTER_KEY": "sk-master-key-of-the-tests-0123456789", "DATABASE_URL": "sqlite:///x.db"}


def loaded(tmp_path: Path, router: Any = None, env: Mapping[str, str] | None = None, **sections: Any) -> Settings:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**sections, **({"router_settings": router} if router is not None else {})}))
    return load_settings(path, {**KEY, **(env or {})})


def test_defaults_are_the_contract_s(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    assert (settings.routing_strategy, settings.num_retries, settings.retry_after) == ("simple-shuffle", 2, 0)
    assert (settings.cooldown_seconds, settings.max_fallbacks, settings.allowed_fails) == (5, 5, None)
    assert settings.tag_filtering_match_any
    assert not (settings.enable_tag_filtering or settings.enable_pre_call_checks or settings.disable_cooldowns)
    assert not (settings.fallbacks or settings.default_fallbacks or settings.model_group_alias)


def test_every_key_is_read(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        {
            "routing_strategy": "latency-based-routing",
            "routing_strategy_args": {"lowest_latency_buffer": 0.2},
            "num_retries": 4,
            "retry_after": 1,
            "retry_policy": {"RateLimitErrorRetries": 3, "DefaultRetries": None},
            "model_group_retry_policy": {"chat": {"TimeoutErrorRetries": 0}},
            "allowed_fails": 7,
            "allowed_fails_policy": {"BadGatewayErrorAllowedFails": 2},
            "cooldown_time": 0,
            "disable_cooldowns": True,
            "fallbacks": [{"chat": ["a"]}, {"chat": ["b"]}],
            "default_fallbacks": ["c"],
            "context_window_fallbacks": [{"chat": ["long"]}],
            "content_policy_fallbacks": {"chat": ["tame"]},
            "max_fallbacks": 0,
            "model_group_alias": {"quick": "chat", "hush": {"model": "chat", "hidden": True}},
            "enable_pre_call_checks": True,
            "optional_pre_call_checks": ["enforce_model_rate_limits", "prompt_caching"],
            "enable_tag_filtering": True,
            "tag_filtering_match_any": False,
        },
    )
    assert settings.routing_strategy == "latency-based-routing"
    assert (settings.num_retries, settings.retry_after, settings.allowed_fails, settings.cooldown_seconds) == (
        4,
        1,
        7,
        0,
    )
    assert settings.retry_policy == {"RateLimit": 3}
    assert settings.model_group_retry_policy == {"chat": {"Timeout": 0}}
    assert settings.allowed_fails_policy == {"BadGateway": 2}
    assert settings.fallbacks == {"chat": (FallbackTarget("a"), FallbackTarget("b"))}
    assert settings.default_fallbacks == (FallbackTarget("c"),)
    assert settings.context_window_fallbacks["chat"][0].model == "long"
    assert settings.content_policy_fallbacks["chat"][0].model == "tame"
    assert settings.model_group_alias == {"quick": ("chat", False), "hush": ("chat", True)}
    assert settings.max_fallbacks == 0
    assert settings.enforces_deployment_limits and settings.disable_cooldowns and settings.enable_pre_call_checks
    assert settings.enable_tag_filtering and not settings.tag_filtering_match_any


def test_some_stand_in_the_other_section_or_in_the_environment_too(tmp_path: Path) -> None:
    other = {"num_retries": 6, "fallbacks": [{"chat": ["a"]}], "allowed_fails": 1, "default_fallbacks": ["b"]}
    settings = loaded(tmp_path, litellm_settings=other)
    assert (settings.num_retries, settings.allowed_fails) == (6, 1)
    assert settings.fallbacks["chat"] == settings.fallbacks["chat"] != ()
    both = loaded(tmp_path, {"num_retries": 1}, litellm_settings=other)
    assert both.num_retries == 1
    by_environment = loaded(tmp_path, env={"DEFAULT_COOLDOWN_TIME_SECONDS": "9", "ROUTER_MAX_FALLBACKS": "3"})
    assert (by_environment.cooldown_seconds, by_environment.max_fallbacks) == (9, 3)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("routing_strategy", "best"),
        ("num_retries", -1),
        ("retry_after", "soon"),
        ("retry_policy", {"RateLimitErrorRetries": "x"}),
        ("allowed_fails_policy", {"RateLimitErrorAllowedFails": "x"}),
        ("model_group_retry_policy", {"chat": 3}),
        ("cooldown_time", -1),
        ("fallbacks", "chat"),
        ("fallbacks", ["chat"]),
        ("fallbacks", [{"chat": [5]}]),
        ("fallbacks", [{"chat": [{"temperature": 0}]}]),
        ("default_fallbacks", 5),
        ("model_group_alias", {"quick": 5}),
        ("model_group_alias", {"quick": {"hidden": True}}),
        ("optional_pre_call_checks", "enforce_model_rate_limits"),
        ("enable_tag_filtering", "perhaps"),
    ],
)
def test_what_is_wrong_is_named_at_the_start(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=key):
        loaded(tmp_path, {key: value})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_has_its_name(tmp_path: Path, strategy: str) -> None:
    assert loaded(tmp_path, {"routing_strategy": strategy}).routing_strategy == strategy


def test_targets_are_names_or_objects() -> None:
    assert fallback_targets("a") == fallback_targets(["a"]) == (FallbackTarget("a"),)
    (target,) = fallback_targets([{"model": "a", "temperature": 0}])
    assert (target.model, dict(target.fields)) == ("a", {"temperature": 0})
    for wrong in ([""], [None], [{"model": ""}], 5):
        with pytest.raises(ValueError, match=r"is not|has a target"):
            fallback_targets(wrong)


def test_groups_are_a_list_or_one_mapping() -> None:
    assert fallback_groups([{"a": ["b"]}]) == fallback_groups({"a": ["b"]}) == {"a": (FallbackTarget("b"),)}
    assert fallback_groups([{"a": ["b"], "c": "d"}])["c"] == (FallbackTarget("d"),)


def test_a_policy_names_the_field_s_kinds() -> None:
    assert retry_policy({"AuthenticationErrorRetries": 0, "DefaultRetries": 2}) == {"Authentication": 0, "Default": 2}
    with pytest.raises(ValueError, match="BadRequestErrorRetries"):
        retry_policy({"Nonsense": 1})
