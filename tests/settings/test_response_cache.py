"""The settings of the cache of answers, and the address of Redis in parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings, load_settings
from app.settings.config_file import SettingsError
from app.settings.response_cache import CacheParams, read_cache_params, redis_url_of

KEY = "sk-master-key-of-the-tests-0123456789"
HERE = "redis://own:6379/0"


def load(directory: Path, section: dict[str, Any], **environ: str) -> Settings:
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump({"litellm_settings": section}))
    return load_settings(path, {"LITELLM_MASTER_KEY": KEY, **environ})


def test_answers_are_not_cached_unless_somebody_says_so(tmp_path: Path) -> None:
    settings = load(tmp_path, {})
    assert settings.caches_answers is False
    assert read_cache_params(settings.cache_params) == CacheParams()


def test_all_of_it_is_read(tmp_path: Path) -> None:
    params = {
        "type": "redis",
        "host": "cache.example",
        "port": "os.environ/CACHE_PORT",
        "password": "p@ss/word",
        "ssl": True,
        "mode": "default_off",
        "ttl": 30,
        "namespace": "night",
        "supported_call_types": ["acompletion", "embedding"],
        "scope": "key",
        "max_connections": 4,
        "max_entries": 5,
        "max_memory_mb": 2,
        "max_entry_mb": 0.5,
    }
    settings = load(tmp_path, {"cache": True, "cache_params": params}, CACHE_PORT="6380")
    assert settings.caches_answers
    assert settings.warnings == ()
    assert "p@ss/word" not in repr(settings)
    assert read_cache_params(settings.cache_params, HERE) == CacheParams(
        is_default_on=False,
        seconds=30.0,
        namespace="night",
        call_types=frozenset(("acompletion", "embedding")),
        scope="key",
        redis_url="rediss://:p%40ss%2Fword@cache.example:6380/0",
        max_connections=4,
        max_entries=5,
        max_bytes=2 * 1024 * 1024,
        max_entry_bytes=512 * 1024,
    )


@pytest.mark.parametrize(
    ("given", "instance", "expected"),
    [
        ({}, None, None),
        ({}, HERE, HERE),
        ({"type": "local"}, HERE, None),
        ({"type": "redis"}, HERE, HERE),
        ({"type": "redis", "url": "redis://other:1/2"}, HERE, "redis://other:1/2"),
        ({"host": "other"}, None, "redis://other:6379/0"),
        # The instance's own password goes to the instance's own Redis only.
        ({"host": "other"}, "redis://:secret@own:6379/0", "redis://other:6379/0"),
        ({"host": "other", "username": "u", "password": "p", "db": 3}, None, "redis://u:p@other:6379/3"),
        ({"host": "::1"}, None, "redis://[::1]:6379/0"),
    ],
)
def test_where_answers_are_kept(given: dict[str, Any], instance: str | None, expected: str | None) -> None:
    assert read_cache_params(given, instance).redis_url == expected


def test_each_place_has_its_own_life_time_below_the_common_one() -> None:
    given = {"default_in_memory_ttl": 5, "default_in_redis_ttl": 6}
    assert read_cache_params({**given, "type": "local"}).seconds == 5.0
    assert read_cache_params({**given, "host": "h"}).seconds == 6.0
    assert read_cache_params({**given, "ttl": 7}).seconds == 7.0
    assert read_cache_params({"ttl": None}).seconds == 600.0


@pytest.mark.parametrize("kind", ["s3", "disk", "redis-semantic", "qdrant-semantic", "gcs"])
def test_a_place_that_is_not_there_is_a_warning(tmp_path: Path, kind: str) -> None:
    settings = load(tmp_path, {"cache": True, "cache_params": {"type": kind, "s3_bucket_name": "b"}})
    params = read_cache_params(settings.cache_params, settings.redis_url)
    assert params.redis_url is None
    assert kind in params.warnings[0]
    assert "s3_bucket_name" in params.warnings[1]


def test_redis_without_an_address_is_a_warning() -> None:
    params = read_cache_params({"type": "redis"})
    assert params.redis_url is None
    assert "no address" in params.warnings[0]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"type": "memcached"}, "use local or redis"),
        ({"mode": "sometimes"}, "use default_on, default_off"),
        ({"scope": "planet"}, "use team, key, organization, global"),
        ({"ttl": -1}, "`ttl`"),
        ({"ttl": "soon"}, "`ttl`"),
        ({"url": "http://h"}, "`url`"),
        ({"host": "h", "port": 0}, "port"),
        ({"namespace": "two words"}, "`namespace`"),
        ({"supported_call_types": "completion"}, "`supported_call_types`"),
        ({"supported_call_types": [5]}, "`supported_call_types`"),
        (["type"], "mapping"),
    ],
)
def test_a_wrong_value_is_refused_at_start(tmp_path: Path, params: Any, words: str) -> None:
    with pytest.raises(SettingsError) as problem:
        load(tmp_path, {"cache_params": params})
    assert str(problem.value).startswith("config.yaml: litellm_settings.cache_params: the value ")
    assert words in str(problem.value)


def test_a_call_type_that_is_not_cached_is_a_warning() -> None:
    params = read_cache_params({"supported_call_types": ["dreams", "embedding"]})
    assert params.call_types == frozenset({"embedding"})
    assert params.warnings == ("cache_params.supported_call_types: not cached here: dreams",)


def test_redis_may_be_spelled_in_parts_by_the_environment(tmp_path: Path) -> None:
    parts = {"REDIS_HOST": "h", "REDIS_PORT": "1234", "REDIS_PASSWORD": "s", "REDIS_SSL": "true", "REDIS_DB": "2"}
    settings = load(tmp_path, {}, **parts)
    assert settings.redis_url == "rediss://:s@h:1234/2"
    assert settings.warnings == ()
    assert load(tmp_path, {}, **parts, REDIS_URL=HERE).redis_url == HERE
    assert load(tmp_path, {}, REDIS_PORT="1").redis_url is None
    with pytest.raises(SettingsError, match="environment: REDIS_PORT"):
        load(tmp_path, {}, REDIS_HOST="h", REDIS_PORT="x")


def test_no_host_is_no_address() -> None:
    assert redis_url_of({}) is None
    assert redis_url_of({"REDIS_HOST": ""}, "REDIS_") is None
