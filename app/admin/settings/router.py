"""Settings of the router as a dashboard's form wants them: fields, and the values that count now."""

from __future__ import annotations

from typing import Any

from quart import Blueprint

from ...security.masking import masked
from ...services import services
from .fields import config_fields, name_effects
from .sections import read_section

blueprint = Blueprint("admin_router_settings", __name__)

Answer = dict[str, Any]
_SECTION = "router_settings"
# Names that a form asks for, with the type of their input and what they mean; keys of the contract.
_FORM = (
    ("routing_strategy", "String", "How a deployment of a model is chosen."),
    ("num_retries", "Integer", "How many further attempts a failed call gets."),
    ("timeout", "Float", "Seconds that a whole upstream call may take."),
    ("stream_timeout", "Float", "Seconds of silence after which a stream counts as dead."),
    ("retry_after", "Integer", "Least seconds before the next attempt."),
    ("allowed_fails", "Integer", "Failures of a deployment per minute before it cools down."),
    ("cooldown_time", "Float", "Seconds that a failing deployment cools down."),
    ("max_fallbacks", "Integer", "Most fallbacks that one call may take."),
    ("fallbacks", "List", "Model names to try when a model fails."),
    ("context_window_fallbacks", "List", "The same for a prompt that is too long."),
    ("content_policy_fallbacks", "List", "The same for a refusal by content policy."),
    ("default_fallbacks", "List", "Model names to try when any model fails."),
    ("model_group_alias", "Dictionary", "Other names of models."),
    ("retry_policy", "Dictionary", "Attempts by kind of error."),
    ("model_group_retry_policy", "Dictionary", "The same for single models."),
    ("enable_pre_call_checks", "Boolean", "Leave out deployments whose limits a call would exceed."),
    ("enable_tag_filtering", "Boolean", "Choose among deployments that carry the call's tags."),
)
_STRATEGIES = {
    "simple-shuffle": "At random, by weight, rpm or tpm where deployments have them.",
    "least-busy": "The one with the fewest calls that run.",
    "latency-based-routing": "The one that answered fastest of late, per token or to the first chunk.",
    "usage-based-routing": "The one with the fewest tokens in this minute.",
    "usage-based-routing-v2": "The same, and nobody over its rpm or tpm, over all processes.",
    "cost-based-routing": "The cheapest one with room.",
}


@blueprint.get("/router/fields")
async def router_fields() -> Answer:
    """The form without values."""
    return {"fields": _fields({}), "routing_strategy_descriptions": _STRATEGIES}


@blueprint.get("/router/settings")
async def router_settings() -> Answer:
    """The form with the values that count: what is stored, else what this instance was told."""
    stored = masked(await read_section(_SECTION))
    settings = services().settings
    own = {name: field.value_in(settings) for name, field in config_fields()[_SECTION].items()}
    values = {name: own[name] for name in own if own[name] is not None}
    values.update(stored)
    name_effects(_SECTION, stored)
    return {
        "fields": _fields(values),
        "current_values": values,
        "routing_strategy_descriptions": _STRATEGIES,
    }


def _fields(values: Answer) -> list[Answer]:
    known = config_fields()[_SECTION]
    return [
        {
            "field_name": name,
            "field_type": kind,
            "field_value": values.get(name),
            "field_description": description if known[name].has_effect else f"{description} No effect in this version.",
            "field_default": known[name].default(),
            "options": list(_STRATEGIES) if name == "routing_strategy" else None,
            "ui_field_name": name.replace("_", " ").capitalize(),
            "link": None,
        }
        for name, kind, description in _FORM
    ]
