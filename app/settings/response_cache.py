"""Settings of the response cache: where answers are stored, how long, and who shares them. Part of `Settings`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from .config_file import redis_address
from .declaration import EMPTY, boolean, mapping, port, positive, setting, text, whole

LOCAL, REDIS = "local", "redis"
# The field's other stores: an instance that names one starts, and stores answers in memory.
_OTHER_KINDS = ("redis-semantic", "valkey-semantic", "qdrant-semantic", "s3", "gcs", "azure-blob", "disk")
_MODES = ("default_on", "default_off")
# Who shares answers. The last is the field's own behaviour.
SCOPES = ("team", "key", "organization", "global")
_CALL_TYPES = (
    "completion acompletion embedding aembedding transcription atranscription text_completion atext_completion "
    "rerank arerank responses aresponses anthropic_messages aanthropic_messages"
).split()

_DEFAULT_TTL = 600.0
_MAX_TTL = 30 * 86_400.0
_MEGABYTE = 1024 * 1024
_MAX_NAMESPACE = 100

_REDIS_KEYS = ("url", "host", "port", "username", "password", "ssl", "db", "max_connections", "default_in_redis_ttl")
KNOWN_PARAMS = frozenset(
    "type mode ttl default_in_memory_ttl namespace supported_call_types scope max_entries max_memory_mb "
    "max_entry_mb".split()
).union(_REDIS_KEYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheParams:
    """How answers are cached. Seconds for times. `call_types` None: all. `redis_url` None: in this process alone.

    `warnings` are about what was asked for and is not there.
    """

    is_default_on: bool = True
    seconds: float = _DEFAULT_TTL
    namespace: str = ""
    call_types: frozenset[str] | None = None
    scope: str = SCOPES[0]
    redis_url: str | None = field(default=None, repr=False)
    max_connections: int = 16
    max_entries: int = 10_000
    max_bytes: int = 64 * _MEGABYTE
    max_entry_bytes: int = _MEGABYTE
    warnings: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[object, ...]:
        """What identifies the store: another value means that answers are stored elsewhere."""
        if self.redis_url is not None:
            return self.redis_url, self.max_connections
        return self.max_entries, self.max_bytes


def read_cache_params(given: Mapping[str, Any], redis_url: str | None = None) -> CacheParams:
    """`cache_params` of the file. `redis_url`: the instance's own Redis, used where none is named.

    Raises ValueError with the end of a sentence that begins with the value.
    """
    named = {name: value for name, value in given.items() if value is not None}
    warnings: list[str] = []
    address = _address(named, redis_url, warnings)
    unknown = sorted(str(name) for name in named if name not in KNOWN_PARAMS)
    if unknown:
        warnings.append(f"cache_params: not supported and without effect: {', '.join(unknown)[:500]}")
    per_kind = "default_in_redis_ttl" if address is not None else "default_in_memory_ttl"
    seconds = _read(named, "ttl", positive, _read(named, per_kind, positive, _DEFAULT_TTL))
    return CacheParams(
        is_default_on=_one_of(named, "mode", _MODES) == _MODES[0],
        seconds=min(seconds, _MAX_TTL),
        namespace=_read(named, "namespace", _namespace, ""),
        call_types=_call_types_of(named, warnings),
        scope=_one_of(named, "scope", SCOPES),
        redis_url=address,
        max_connections=max(1, _read(named, "max_connections", whole, 16)),
        max_entries=max(1, _read(named, "max_entries", whole, 10_000)),
        max_bytes=int(_read(named, "max_memory_mb", positive, 64.0) * _MEGABYTE),
        max_entry_bytes=int(_read(named, "max_entry_mb", positive, 1.0) * _MEGABYTE),
        warnings=tuple(warnings),
    )


def redis_url_of(variables: Mapping[str, Any], prefix: str = "") -> str | None:
    """A Redis address of its parts, each under a name as `host` or, with the prefix `REDIS_`, `REDIS_HOST`."""

    def part(name: str, default: Any = None) -> Any:
        value = variables.get(f"{prefix}{name}".upper() if prefix else name)
        return default if value in (None, "") else value

    host = part("host")
    if not host:
        return None
    user, password = (quote(str(part(name, "")), safe="") for name in ("username", "password"))
    login = f"{user}:{password}@" if user or password else ""
    netloc = f"[{host}]" if ":" in str(host) else host
    scheme = "rediss" if boolean(part("ssl", False)) else "redis"
    return f"{scheme}://{login}{netloc}:{port(part('port', 6379))}/{whole(part('db', 0))}"


def _address(named: Mapping[str, Any], redis_url: str | None, warnings: list[str]) -> str | None:
    """Where Redis is, None for this process's memory."""
    names_redis = bool(named.get("url") or named.get("host"))
    kind = named.get("type", REDIS if names_redis or redis_url else LOCAL)
    if kind in _OTHER_KINDS:
        warnings.append(f"cache_params.type: {kind} is not supported; each process stores answers in its own memory")
        return None
    if kind not in (LOCAL, REDIS):
        raise ValueError(f"has the type {kind!r}; use {LOCAL} or {REDIS}")
    if kind == LOCAL:
        return None
    # A password of the environment goes to the address of the environment only.
    address = _read(named, "url", redis_address, None) or redis_url_of(named) or redis_url
    if address is None:
        warnings.append(
            "cache_params.type: redis has no address (url, host or REDIS_URL); answers are stored in memory, "
            "each process its own"
        )
    return address


def _read(named: Mapping[str, Any], name: str, parse: Callable[[Any], Any], default: Any) -> Any:
    if name not in named:
        return default
    try:
        return parse(named[name])
    except ValueError as problem:
        raise ValueError(f"has a `{name}` that {problem}") from None


def _one_of(named: Mapping[str, Any], name: str, words: Iterable[str]) -> str:
    """One of these words, the first without a choice."""
    known = list(words)
    word = named.get(name, known[0])
    if word not in known:
        raise ValueError(f"has the {name} {word!r}; use {', '.join(known)}")
    return str(word)


def _namespace(value: Any) -> str:
    name = text(value)
    if not is_namespace(name):
        raise ValueError(f"is not printable ASCII without spaces of at most {_MAX_NAMESPACE} characters")
    return name


def is_namespace(name: str) -> bool:
    """Whether a namespace can stand in a header and in a name of Redis."""
    return len(name) <= _MAX_NAMESPACE and name.isascii() and name.isprintable() and " " not in name


def _call_types_of(named: Mapping[str, Any], warnings: list[str]) -> frozenset[str] | None:
    given = _read(named, "supported_call_types", _names, None)
    if given is None:
        return None
    unknown = [name for name in given if name not in _CALL_TYPES]
    if unknown:
        warnings.append(f"cache_params.supported_call_types: not cached here: {', '.join(unknown)[:500]}")
    return frozenset(given).intersection(_CALL_TYPES)


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"is not a list of {', '.join(_CALL_TYPES)}")
    return tuple(value)


def _checked_params(value: Any) -> Mapping[str, Any]:
    params = mapping(value)
    read_cache_params(params)
    return params


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Both may change while an instance runs."""

    caches_answers: bool = setting(
        "Answer a call that was answered before from the cache, within its team.",
        boolean,
        False,
        yaml="litellm_settings.cache",
        runtime=True,
    )
    cache_params: Mapping[str, Any] = setting(
        "Where, how long and for whom answers are cached; see docs/caching.md.",
        _checked_params,
        EMPTY,
        yaml="litellm_settings.cache_params",
        is_secret=True,
        runtime=True,
    )
