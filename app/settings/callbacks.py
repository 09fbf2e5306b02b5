"""Settings of callbacks and alerts: who is notified of calls, and of failures. Part of `Settings`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from .config_file import duration, http_address
from .declaration import boolean, mapping, port, positive, setting, text
from .header_rules import check_written

_USUAL_PORTS = {"http": 80, "https": 443}
_MAX_NAMES = 50
# Parts of names of variables that hold addresses.
_ADDRESS_WORDS = ("host", "url", "endpoint", "base", "address")


def names(value: Any) -> tuple[str, ...]:
    """A list of names, or text with commas between them."""
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, str) for entry in entries):
        raise ValueError("is not a list of names")
    unique = tuple(dict.fromkeys(entry.strip() for entry in entries if entry.strip()))
    if len(unique) > _MAX_NAMES:
        raise ValueError(f"names more than {_MAX_NAMES}")
    return unique


def header_lines(value: Any) -> tuple[tuple[str, str], ...]:
    """Headers as `{name: value}` or as text: `name=value,other=value`."""
    if isinstance(value, Mapping):
        pairs = [(str(name), str(content)) for name, content in value.items()]
    else:
        pairs = [(name, content) for name, _, content in (line.partition("=") for line in text(value).split(","))]
    headers = tuple((name.strip(), content.strip()) for name, content in pairs if name.strip())
    check_written(dict(headers))
    return headers


def whole_days(value: Any) -> int:
    """`1d`, `7d`: a number of days up to a year."""
    days, rest = divmod(duration(value).total_seconds(), 86_400)
    if rest or not 1 <= days <= 366:
        raise ValueError("is no number of days; write 1d, 7d or 30d")
    return int(days)


def receiver_address(value: Any) -> str:
    """Where messages may be posted to: no link-local address, where machines of a cloud find their credentials."""
    address = http_address(value)
    host = urlsplit(address).hostname or ""
    try:
        is_unsafe = ip_address(host).is_link_local
    except ValueError:
        is_unsafe = False  # a name
    if is_unsafe:
        raise ValueError("is a link-local address; nothing is sent there")
    return address


def origin(address: str) -> str:
    """`https://host[:port]` of an address, whose scheme may be left out. Raises ValueError for what is none."""
    full = receiver_address(address if "://" in address else f"https://{address}")
    parts = urlsplit(full)
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a name or a password")
    usual = parts.port in (None, _USUAL_PORTS[parts.scheme])
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" if usual else f"{parts.scheme}://{host}:{parts.port}"


def service_address(value: Any) -> str:
    """An address whose host others may be sent to: it holds no name and no password."""
    address = http_address(value)
    origin(address)
    return address


def refused_address(values: Mapping[str, str], allowed: Collection[str]) -> str | None:
    """The first variable that points to a host which the operator did not allow; None when there is none."""
    for name, value in values.items():
        is_address = "://" in value or any(word in name.lower() for word in _ADDRESS_WORDS)
        if is_address and value and not is_allowed(value, allowed):
            return name
    return None


def is_allowed(address: str, allowed: Collection[str]) -> bool:
    try:
        return origin(address) in allowed
    except ValueError:
        return False


def origins(value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(origin(entry) for entry in names(value)))


def webhook_addresses(value: Any) -> Mapping[str, tuple[str, ...]]:
    """Alert type -> addresses, from `{type: address}` or `{type: [address, …]}`."""
    addresses = {}
    for name, entry in mapping(value).items():
        entries = entry if isinstance(entry, list | tuple) else [entry]
        addresses[name] = tuple(receiver_address(address) for address in entries)
    return addresses


@dataclass(frozen=True, kw_only=True)
class CallbackSettings:
    """Durations are seconds."""

    callbacks: tuple[str, ...] = setting(
        "Who is notified of every call, good or bad: `langfuse`, `generic_api`, a name of `callback_settings`.",
        names,
        (),
        yaml="litellm_settings.callbacks",
        runtime=True,
    )
    success_callback: tuple[str, ...] = setting(
        "Who is notified of calls that succeeded.",
        names,
        (),
        yaml="litellm_settings.success_callback",
        runtime=True,
    )
    failure_callback: tuple[str, ...] = setting(
        "Who is notified of calls that failed.",
        names,
        (),
        yaml="litellm_settings.failure_callback",
        runtime=True,
    )
    callback_settings: Mapping[str, Any] | None = setting(
        "Own callbacks by name: `{callback_type: generic_api, endpoint, headers}`. May stand at the top of the file.",
        mapping,
        yaml="litellm_settings.callback_settings",
        is_secret=True,
        operator_only=True,
    )
    turn_off_message_logging: bool = setting(
        "Notify callbacks of calls without prompts and answers.",
        boolean,
        False,
        yaml="litellm_settings.turn_off_message_logging",
        runtime=True,
    )
    redact_user_api_key_info: bool = setting(
        "Notify callbacks of calls without key, user and team.",
        boolean,
        False,
        yaml="litellm_settings.redact_user_api_key_info",
        runtime=True,
    )
    langfuse_host: str | None = setting(
        "Langfuse. Without one `https://cloud.langfuse.com`. Callbacks of keys and teams may use this host.",
        service_address,
        env="LANGFUSE_HOST",
        runtime=True,
    )
    langfuse_public_key: str | None = setting(
        "Public key of a Langfuse project.", text, env="LANGFUSE_PUBLIC_KEY", runtime=True
    )
    langfuse_secret_key: str | None = setting(
        "Secret key of a Langfuse project.",
        text,
        env="LANGFUSE_SECRET_KEY",
        is_secret=True,
        runtime=True,
    )
    generic_logger_endpoint: str | None = setting(
        "Where `generic_api` posts events; without one `WEBHOOK_URL`.",
        receiver_address,
        env="GENERIC_LOGGER_ENDPOINT",
        operator_only=True,
    )
    generic_logger_headers: tuple[tuple[str, str], ...] = setting(
        "Headers of those posts: `name=value,other=value`.",
        header_lines,
        (),
        env="GENERIC_LOGGER_HEADERS",
        is_secret=True,
        operator_only=True,
    )
    callback_hosts: tuple[str, ...] = setting(
        "Hosts beside `LANGFUSE_HOST` that callbacks of keys and teams may send to: `logs.example,http://10.0.0.5:3000`.",
        origins,
        (),
        env="QUARTERDECK_CALLBACK_HOSTS",
        operator_only=True,
    )
    alerting: tuple[str, ...] = setting(
        "Where alerts go: `slack`, `webhook`, `email`.",
        names,
        (),
        yaml="general_settings.alerting",
        runtime=True,
    )
    alerting_threshold: float = setting(
        "Seconds until an answer, or its first chunk, above which a call is slow.",
        positive,
        300.0,
        yaml="general_settings.alerting_threshold",
        runtime=True,
    )
    alert_types: tuple[str, ...] | None = setting(
        "The alerts that are sent, as `budget_alerts`; without it all of them.",
        names,
        yaml="general_settings.alert_types",
        runtime=True,
    )
    alert_to_webhook_url: Mapping[str, tuple[str, ...]] | None = setting(
        "Slack webhooks of single alert types, in place of `SLACK_WEBHOOK_URL`.",
        webhook_addresses,
        yaml="general_settings.alert_to_webhook_url",
        is_secret=True,
        runtime=True,
    )
    alerting_args: Mapping[str, Any] | None = setting(
        "`budget_alert_ttl` and `outage_alert_ttl`: seconds in which the same alert is sent once, 3600 unless set.",
        mapping,
        yaml="general_settings.alerting_args",
        runtime=True,
    )
    spend_report_days: int | None = setting(
        "How often a report of spend is sent as an alert, as `7d`; without it never.",
        whole_days,
        yaml="general_settings.spend_report_frequency",
        to_json=lambda days: days and f"{days}d",
        runtime=True,
    )
    slack_webhook_url: str | None = setting(
        "Slack webhook of alerts.",
        receiver_address,
        env="SLACK_WEBHOOK_URL",
        is_secret=True,
        runtime=True,
    )
    webhook_url: str | None = setting(
        "Where alerts are posted as JSON.",
        receiver_address,
        env="WEBHOOK_URL",
        is_secret=True,
        runtime=True,
    )
    smtp_host: str | None = setting("Mail server of alerts.", text, env="SMTP_HOST", runtime=True)
    smtp_port: int = setting("Its port.", port, 587, env="SMTP_PORT", runtime=True)
    smtp_username: str | None = setting("Name to sign in with there.", text, env="SMTP_USERNAME", runtime=True)
    smtp_password: str | None = setting(
        "Password of that name.", text, env="SMTP_PASSWORD", is_secret=True, runtime=True
    )
    smtp_sender_email: str | None = setting("Sender of mails.", text, env="SMTP_SENDER_EMAIL", runtime=True)
    smtp_tls: bool = setting(
        "Encrypt the connection to the mail server (STARTTLS).", boolean, True, env="SMTP_TLS", operator_only=True
    )
    alert_emails: tuple[str, ...] = setting(
        "Who gets alerts by e-mail; without it the sender's own address.", names, (), env="QUARTERDECK_ALERT_EMAILS"
    )

    @property
    def callback_origins(self) -> frozenset[str]:
        """Where callbacks of keys and teams may send to: what the operator named, and nothing else."""
        own = (origin(self.langfuse_host),) if self.langfuse_host else ()
        return frozenset((*self.callback_hosts, *own))
