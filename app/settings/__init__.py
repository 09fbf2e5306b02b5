"""Settings: the YAML file and the environment, read once, checked, frozen.

This is the only module that reads `os.environ`. Each field of `Settings` declares where its value comes from: loader,
start-up checks and docs/configuration.md read one table. The file wins over the environment (`os.environ/NAME`).
"""

# ruff: noqa: RUF009 (settings are declared by call; a wrong value is a ValueError whatever its type)

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from ..security.masking import is_secret, masked_text, without_values
from .budgets import BudgetSettings
from .callbacks import CallbackSettings
from .config_file import (
    ConfigFile,
    SettingsError,
    WorkerEntry,
    database_address,
    http_address,
    read_config_file,
    redis_address,
)
from .config_keys import WEAK_MASTER_KEYS
from .declaration import boolean, port, positive, processes, setting, text, trimmed, whole
from .observability import ObservabilitySettings
from .pass_through import PassThroughSettings
from .response_cache import CacheSettings, redis_url_of
from .routing import RoutingSettings
from .sign_in import SignInSettings


@dataclass(frozen=True, kw_only=True)
class Settings(
    CacheSettings,
    BudgetSettings,
    ObservabilitySettings,
    PassThroughSettings,
    RoutingSettings,
    CallbackSettings,
    SignInSettings,
):
    """What one instance was told. Times are `timedelta`, money is `Decimal` USD, secrets are absent from `repr`."""

    master_key: str = setting(
        "The root secret of this instance: full admin, and the source of every derived key.",
        trimmed,
        "",
        env="LITELLM_MASTER_KEY",
        yaml="general_settings.master_key",
        is_secret=True,
        operator_only=True,
    )
    database_url: str = setting(
        "`postgres://`, `postgresql://` or `sqlite://`. Without one: a SQLite file in the state directory.",
        database_address,
        "",
        env="DATABASE_URL",
        yaml="general_settings.database_url",
        is_secret=True,
        operator_only=True,
    )
    database_pool_size: int = setting(
        "Most connections that one process opens to PostgreSQL.",
        whole,
        10,
        yaml="general_settings.database_connection_pool_limit",
        operator_only=True,
    )
    database_connection_timeout: float = setting(
        "Seconds that a statement waits for a free connection before the answer is 503.",
        positive,
        5.0,
        yaml="general_settings.database_connection_timeout",
        operator_only=True,
    )
    redis_url: str | None = setting(
        "Shares login codes and sign-in throttling between processes. Optional.",
        redis_address,
        env="REDIS_URL",
        is_secret=True,
        operator_only=True,
    )
    host: str = setting("Address to listen on.", text, "0.0.0.0", env="HOST", operator_only=True)
    port: int = setting("Port to listen on.", port, 4000, env="PORT", operator_only=True)
    state_dir: Path = setting(
        "Directory of local state: the spend journal and the embedded database.",
        Path,
        Path(".quarterdeck"),
        env="QUARTERDECK_STATE_DIR",
        operator_only=True,
    )
    proxy_base_url: str | None = setting(
        "Public address of this instance, when it differs from what a request shows.",
        http_address,
        env="PROXY_BASE_URL",
    )
    server_root_path: str = setting("Path prefix shown by discovery.", text, "", env="SERVER_ROOT_PATH")
    salt_key_text: str | None = setting(
        "Encrypts stored provider credentials. Without one a key derived from the master key does.",
        trimmed,
        env="LITELLM_SALT_KEY",
        is_secret=True,
        operator_only=True,
    )
    disable_admin_ui: bool = setting(
        "Do not serve the console: its pages answer 404.",
        boolean,
        False,
        env="DISABLE_ADMIN_UI",
        operator_only=True,
    )
    disable_admin_endpoints: bool = setting(
        "Refuse the management API with 403.",
        boolean,
        False,
        env="DISABLE_ADMIN_ENDPOINTS",
        operator_only=True,
    )
    disable_llm_api_endpoints: bool = setting(
        "Refuse the LLM routes with 403.",
        boolean,
        False,
        env="DISABLE_LLM_API_ENDPOINTS",
        operator_only=True,
    )
    api_doc_base_url: str | None = setting(
        "Address that code samples in the console show.",
        http_address,
        env="LITELLM_UI_API_DOC_BASE_URL",
        runtime=True,
    )
    control_plane_url: str | None = setting(
        "On a worker: origin of the control plane that may sign people in here. Turns `/v3/login` on.",
        http_address,
        yaml="general_settings.control_plane_url",
    )
    max_request_size_mb: float = setting(
        "Largest request body in MB; more is 413.", positive, 64.0, yaml="general_settings.max_request_size_mb"
    )
    request_timeout: float = setting(
        "Seconds that a whole upstream call may take.",
        positive,
        6000.0,
        yaml="litellm_settings.request_timeout",
        runtime=True,
    )
    router_timeout: float | None = setting(
        "The same, set on the router; wins over `request_timeout`.",
        positive,
        yaml="router_settings.timeout",
        runtime=True,
    )
    stream_timeout: float | None = setting(
        "Seconds of silence after which a stream counts as dead.",
        positive,
        yaml="router_settings.stream_timeout",
        runtime=True,
    )
    stream_keepalive: float | None = setting(
        "Seconds of silence after which a stream gets a comment, also before its first event: then the status is sent.",
        positive,
        yaml="litellm_settings.sse_keepalive_ping_interval_seconds",
        runtime=True,
    )
    repairs_streams: bool = setting(
        "Make streams of OpenAI's dialect well-formed where a provider's are not; `false` changes nothing.",
        boolean,
        True,
        yaml="general_settings.repair_streams",
        runtime=True,
    )
    always_include_stream_usage: bool = setting(
        "Send the usage chunk of a stream also to clients that did not ask.",
        boolean,
        False,
        yaml="general_settings.always_include_stream_usage",
        runtime=True,
    )
    spend_flush_seconds: float = setting(
        "Seconds between two writes of spend to the database.",
        positive,
        1.0,
        env="PROXY_BATCH_WRITE_AT",
        yaml="general_settings.proxy_batch_write_at",
    )
    key_cache_ttl: float = setting(
        "Seconds that a key may be served from memory before the database is asked again.",
        positive,
        5.0,
        yaml="general_settings.user_api_key_cache_ttl",
    )
    key_header_name: str | None = setting(
        "One more header that may carry `Bearer <key>`; wins over all others.",
        text,
        yaml="general_settings.litellm_key_header_name",
        runtime=True,
    )
    permit_weak_master_key: bool = setting(
        "Silences the warning about a well-known master key.",
        boolean,
        False,
        env="LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY",
        yaml="general_settings.dangerously_permit_weak_or_unset_master_key",
        operator_only=True,
    )
    keepalive_timeout: float = setting(
        "Seconds that a connection of a client may be idle; longer than the 90 of what platforms put in front.",
        positive,
        100.0,
        env="KEEPALIVE_TIMEOUT",
        operator_only=True,
    )
    process_count: int = setting("Processes that share the port, as `--workers` says.", processes, 1, env="NUM_WORKERS")
    workers: tuple[WorkerEntry, ...] = ()
    serves_fast_path: bool = setting(
        "Answer chat, text and embedding calls around the web framework, for a fraction of the CPU time. Same answers.",
        boolean,
        True,
        env="QUARTERDECK_DIRECT_CALLS",
    )

    model_list: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    credential_list: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    config_path: str = "environment"
    warnings: tuple[str, ...] = ()
    secret_values: frozenset[str] = field(default=frozenset(), repr=False)

    def without_secrets(self, text: str) -> str:
        """A message about the configuration with the values masked that came from variables or are secrets."""
        return masked_text(without_values(text, self.secret_values))

    @property
    def is_control_plane(self) -> bool:
        """An instance that lists workers serves no LLM traffic."""
        return bool(self.workers)

    @property
    def salt_key(self) -> str:
        """The secret that stored credentials are encrypted with."""
        return self.salt_key_text or self.master_key

    @property
    def admin_password(self) -> str:
        return self.ui_password or self.master_key

    @property
    def control_plane_origin(self) -> str | None:
        """`scheme://host[:port]` of the control plane, as a browser writes it in `Origin`."""
        if self.control_plane_url is None:
            return None
        parts = urlsplit(self.control_plane_url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        is_usual = parts.port in (None, {"http": 80, "https": 443}[parts.scheme])
        return f"{parts.scheme}://{host}" if is_usual else f"{parts.scheme}://{host}:{parts.port}"


def declared_settings() -> list[Field[Any]]:
    """The fields that come from the file or the environment, in the order of the documentation."""
    return [item for item in fields(Settings) if "doc" in item.metadata]


def load_settings(
    config_path: str | Path | None = None, environ: Mapping[str, str] | None = None, **overrides: Any
) -> Settings:
    """Read file and environment into `Settings`; `overrides` (command line) win over both.

    Without a path: `CONFIG_FILE_PATH`, else `config.yaml` in the working directory if there is one.
    Raises `SettingsError` with one line that names file, key and fix.
    """
    return _checked(_read(config_path, environ, overrides))


def load_database_settings(config_path: str | Path | None = None) -> Settings:
    """The same for `migrate`, which serves nobody: a release phase may know the database and no secret."""
    return _read(config_path, None, {})


def _read(config_path: str | Path | None, environ: Mapping[str, str] | None, overrides: Mapping[str, Any]) -> Settings:
    env = dict(os.environ if environ is None else environ)
    path = config_path or env.get("CONFIG_FILE_PATH") or ("config.yaml" if Path("config.yaml").is_file() else None)
    file = read_config_file(Path(path), env) if path else ConfigFile.empty(env)
    try:
        values = _values_of(file, overrides)
    except SettingsError as problem:
        raise SettingsError(without_values(str(problem), file.secret_values)) from None
    if not values["database_url"]:
        # Three slashes may be read as relative: an absolute path has four.
        path = values["state_dir"] / "quarterdeck.db"
        values["database_url"] = f"sqlite:///{path}" if path.is_absolute() else f"sqlite://{path}"
    values["redis_url"] = values["redis_url"] or _redis_of_parts(file.environment)
    return Settings(
        **values,
        workers=file.workers,
        model_list=file.model_list,
        credential_list=file.credential_list,
        environment=MappingProxyType(file.environment),
        config_path=file.name,
        warnings=tuple(file.warnings),
        secret_values=file.secret_values,
    )


def _values_of(file: ConfigFile, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Every declared setting by its name; what the command line says wins."""
    values: dict[str, Any] = {}
    for item in declared_settings():
        given = overrides.get(item.name)
        values[item.name] = _value_of(item, file) if given is None else _parsed(item, given, f"--{item.name}")
    return values


def _redis_of_parts(environment: Mapping[str, str]) -> str | None:
    """The address that REDIS_HOST, REDIS_PORT, REDIS_PASSWORD and so on spell."""
    try:
        return redis_url_of(environment, "REDIS_")
    except ValueError as problem:
        raise SettingsError(f"environment: REDIS_PORT, REDIS_DB or REDIS_SSL {problem}") from None


# Other names under which platforms and people give a variable.
_ALSO_NAMED = {
    "DISABLE_LLM_API_ENDPOINTS": ("DISABLE_LLM_ENDPOINTS",),
    "NUM_WORKERS": ("WEB_CONCURRENCY",),
    "REDIS_URL": ("REDIS_TLS_URL",),
}


def _value_of(item: Field[Any], file: ConfigFile) -> Any:
    """The parsed value of one setting: from the file, else from the environment, else its default."""
    yaml_key, env_name = item.metadata["yaml"], item.metadata["env"]
    raw, source = None, ""
    for key in (yaml_key, item.metadata["also"]):
        if raw is None and key is not None:
            raw, source = file.get(key), f"{file.name}: {key}"
    for name in (env_name, *_ALSO_NAMED.get(env_name or "", ())):
        if raw is None and name is not None:
            raw, source = file.environment.get(name), f"environment: {name}"
            raw = None if raw is None or not raw.strip() else raw
    return item.default if raw is None else _parsed(item, raw, source)


def _parsed(item: Field[Any], raw: Any, source: str) -> Any:
    try:
        return item.metadata["parse"](raw)
    except ValueError as problem:
        # A list or a mapping may hold anything, as a header with a credential: the problem says which entry it is.
        is_shown = isinstance(raw, str | int | float) and not (item.metadata["is_secret"] or is_secret(item.name, raw))
        shown = repr(raw) if is_shown else "the value"
        raise SettingsError(f"{source}: {shown} {problem}") from None


def _checked(settings: Settings) -> Settings:
    """Refuse combinations that cannot work; warn of those that are dangerous."""
    if not settings.master_key.strip():
        raise SettingsError(
            f"{settings.config_path}: general_settings.master_key is missing; "
            "set LITELLM_MASTER_KEY to a long random secret, for example sk-$(openssl rand -hex 24)"
        )
    if settings.is_control_plane and settings.control_plane_url:
        raise SettingsError(
            f"{settings.config_path}: worker_registry and general_settings.control_plane_url exclude each other; "
            "the first belongs to a control plane, the second to its workers"
        )
    if not settings.permit_weak_master_key and settings.master_key.lower() in WEAK_MASTER_KEYS:
        warning = (
            "THE MASTER KEY IS PUBLICLY KNOWN: anyone can take this instance over. "
            "Set LITELLM_MASTER_KEY to a long random secret."
        )
        return replace(settings, warnings=(warning, *settings.warnings))
    return settings


# ---- processes that a server starts --------------------------------------------------------------------------------

_EXPORT = "QUARTERDECK_SERVE"


def export_settings(config_path: str | None, overrides: Mapping[str, Any]) -> None:
    """Leave what the command line said where the processes of `--workers` find it."""
    os.environ[_EXPORT] = json.dumps({"config_path": config_path, **overrides})


def load_exported_settings() -> Settings:
    """The settings that `export_settings` described, in a process that a server started."""
    return load_settings(**json.loads(os.environ.get(_EXPORT, "{}")))


def process_environment() -> Mapping[str, str]:
    """The environment of this process, for the demo, which starts others with parts of it."""
    return MappingProxyType(dict(os.environ))
