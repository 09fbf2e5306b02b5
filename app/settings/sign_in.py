"""Settings of sign-in to the console: the built-in admin, sessions, and how often passwords may be tried.

Part of `Settings`.
"""

# ruff: noqa: RUF009 (settings are declared by call; a wrong value is a ValueError whatever its type)

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from .config_file import Network, duration, money, network_ranges
from .declaration import boolean, setting, text, whole


@dataclass(frozen=True, kw_only=True)
class SignInSettings:
    """Times are `timedelta` or seconds, money is `Decimal` USD."""

    ui_username: str = setting("Name of the built-in admin.", text, "admin", env="UI_USERNAME", operator_only=True)
    ui_password: str | None = setting(
        "Password of the built-in admin. Without one the master key is the password.",
        text,
        env="UI_PASSWORD",
        is_secret=True,
        operator_only=True,
    )
    disable_env_credential_login: bool = setting(
        "Refuse the built-in admin at sign-in.",
        boolean,
        False,
        yaml="general_settings.disable_env_credential_login",
        runtime=True,
    )
    session_duration: timedelta = setting(
        "How long a console session lasts.",
        duration,
        timedelta(hours=24),
        env="LITELLM_UI_SESSION_DURATION",
        runtime=True,
    )
    max_ui_session_budget: Decimal = setting(
        "USD that one console session may spend on LLM calls.",
        money,
        Decimal(1),
        yaml="litellm_settings.max_ui_session_budget",
        runtime=True,
    )
    failed_login_limit: int = setting(
        "Wrong passwords that one source may try per window; half of it for one source and user name.",
        whole,
        10,
        yaml="general_settings.max_failed_login_attempts_per_source",
    )
    failed_login_window: int = setting(
        "Length of that window in seconds.", whole, 60, yaml="general_settings.failed_login_window_seconds"
    )
    failed_login_block: int = setting(
        "Seconds that a throttled source waits.", whole, 300, yaml="general_settings.failed_login_block_seconds"
    )
    trusted_proxy_ranges: tuple[Network, ...] | None = setting(
        "Reverse proxies whose X-Forwarded-For is believed, as `[10.0.0.0/8]`; `[]`: clients connect directly. "
        "Sign-in counts failures per address as well: per public address, and per any once this is declared.",
        network_ranges,
        yaml="general_settings.trusted_proxy_ranges",
    )
