"""Callbacks and alerting as a dashboard shows them.

What `/config/update` stored is listed, names without effect in a header; `/active/callbacks` lists what really runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from quart import Blueprint

from ...errors import NotFound
from ...security.masking import MASK, masked
from ...services import services
from ...storage.stored_settings import ENVIRONMENT
from ...web.fields import Table, identifier, read_body, takes
from .fields import name_without_effect
from .sections import Section, change_section, read_section

blueprint = Blueprint("admin_callbacks", __name__)

Answer = dict[str, Any]
# Key of litellm_settings -> the contract's word for when its callbacks run.
_KINDS = {"success_callback": "success", "failure_callback": "failure", "callbacks": "success_and_failure"}
_DELETE: Table = {"callback_name": identifier().required}
_SMTP = ("SMTP_HOST", "SMTP_PORT", "SMTP_USERNAME", "SMTP_PASSWORD", "SMTP_SENDER_EMAIL")
_ALERTING = (
    ("daily_report_frequency", "Integer", "Seconds between two daily reports.", 43_200),
    ("report_check_interval", "Integer", "Seconds between two looks at whether a report is due.", 3_600),
    ("outage_alert_ttl", "Integer", "Seconds for which one outage is reported once.", 3_600),
    ("budget_alert_ttl", "Integer", "Seconds for which one budget is reported once.", 3_600),
)
_WITHOUT_EFFECT = ("daily_report_frequency", "report_check_interval")


@blueprint.get("/get/config/callbacks")
async def configured_callbacks() -> Answer:
    """Callbacks, alerts and router settings that are stored, with their variables masked out."""
    litellm = await read_section("litellm_settings")
    general = await read_section("general_settings")
    variables = await read_section(ENVIRONMENT)
    callbacks = _callbacks(litellm)
    watch = services().notifications
    _name_those_without_effect(litellm)
    return {
        "status": "success",
        "callbacks": [
            {"name": name, "variables": _variables_of(name, variables), "type": kind} for name, kind in callbacks
        ],
        "alerts": [
            {
                "name": "slack",
                "variables": _masked(variables, ("SLACK_WEBHOOK_URL",)),
                "active_alerts": general.get("alert_types") or watch.alert_types,
                "alerts_to_webhook": dict.fromkeys(_mapping(general.get("alert_to_webhook_url")), MASK),
            },
            {"name": "email", "variables": _masked(variables, _SMTP)},
        ],
        "active_alerting_destinations": watch.alert_names,
        "router_settings": masked(await read_section("router_settings")),
        "available_callbacks": {},
    }


def _name_those_without_effect(stored: Section) -> None:
    """Lists of callbacks with a name that nobody answers to here."""
    runs = services().notifications.effective_names
    name_without_effect(
        f"litellm_settings.{key}" for key in _KINDS if any(name not in runs for name in _names(stored.get(key)))
    )


def _names(listed: Any) -> list[str]:
    return [str(name) for name in (listed if isinstance(listed, list) else [listed]) if name]


def _callbacks(stored: Section) -> list[tuple[str, str]]:
    """(name, kind) of every stored callback; one that stands in several lists runs on several occasions."""
    callbacks: list[tuple[str, str]] = []
    for key, kind in _KINDS.items():
        callbacks.extend((name, kind) for name in _names(stored.get(key)))
    return callbacks


def _variables_of(callback: str, variables: Section) -> dict[str, str]:
    """Stored variables that begin with the callback's name, as LANGFUSE_PUBLIC_KEY."""
    prefix = callback.upper().partition("_")[0]
    return dict.fromkeys((name for name in variables if name.startswith(prefix)), MASK)


def _masked(variables: Section, names: tuple[str, ...]) -> dict[str, str | None]:
    return {name: MASK if variables.get(name) else None for name in names}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


@blueprint.get("/callbacks/list")
async def list_callbacks() -> Answer:
    """The names by when they run: those of this instance, and those that are stored."""
    stored = await read_section("litellm_settings")
    _name_those_without_effect(stored)
    listed = {kind: list(names) for kind, names in services().notifications.callback_names.items()}
    for name, kind in _callbacks(stored):
        if name not in listed[kind]:
            listed[kind].append(name)
    return listed


@blueprint.get("/callbacks/configs")
async def callback_forms() -> list[Answer]:
    """Forms of the callbacks that can be added: none in this version."""
    return []


@blueprint.post("/config/callback/delete")
@takes(body=_DELETE)
async def delete_callback() -> Answer:
    """Take a callback out of every stored list; 404 when it is in none."""
    name = (await read_body())["callback_name"]

    def without(stored: Section) -> Section:
        if name is None or name not in [stored_name for stored_name, _ in _callbacks(stored)]:
            raise NotFound("No callback of this name is stored", param="callback_name")
        remaining = dict(stored)
        for key in _KINDS:
            if isinstance(remaining.get(key), list):
                remaining[key] = [item for item in remaining[key] if item != name]
            elif remaining.get(key) == name:
                remaining[key] = []
        return remaining

    stored = (await change_section("litellm_settings", without)).values
    return {
        "message": f"Successfully deleted callback: {name}",
        "removed_callback": name,
        "remaining_callbacks": list(dict.fromkeys(stored_name for stored_name, _ in _callbacks(stored))),
        "deleted_at": datetime.now(UTC).isoformat(),
    }


@blueprint.get("/settings")
@blueprint.get("/active/callbacks")
async def active_callbacks() -> Answer:
    """What runs in this process, by name."""
    watch = services().notifications
    running, names = watch.callback_names, watch.all_callback_names
    success, failure = running["success"], running["failure"]
    return {
        "alerting": watch.alert_names,
        "litellm.callbacks": running["success_and_failure"],
        "litellm.input_callback": [],
        "litellm.failure_callback": failure,
        "litellm.success_callback": success,
        "litellm._async_success_callback": success,
        "litellm._async_failure_callback": failure,
        "litellm._async_input_callback": [],
        "all_litellm_callbacks": names,
        "num_callbacks": len(names),
        "num_alerting": len(watch.alert_names),
        "litellm.request_timeout": services().settings.request_timeout,
    }


@blueprint.get("/alerting/settings")
async def alerting_settings() -> list[Answer]:
    """The fields of `general_settings.alerting_args`."""
    general = await read_section("general_settings")
    stored = _mapping(general.get("alerting_args"))
    name_without_effect(f"general_settings.alerting_args.{name}" for name in _WITHOUT_EFFECT if name in stored)
    return [
        {
            "field_name": name,
            "field_type": kind,
            "field_description": description + (" Without effect." if name in _WITHOUT_EFFECT else ""),
            "field_default_value": default,
            "field_value": stored.get(name, default),
            "stored_in_db": name in stored,
            "premium_field": False,
        }
        for name, kind, description, default in _ALERTING
    ]
