"""Fallbacks of single models, kept in the stored router settings: what POST makes, GET and DELETE find."""

from __future__ import annotations

from typing import Any

from quart import Blueprint

from ...errors import PlainDenial
from ...services import services
from ...web.fields import Table, bad_request, identifier, one_of, read_body, read_query, takes, text_list
from .fields import name_effects
from .sections import Section, change_section, read_section

blueprint = Blueprint("admin_fallbacks", __name__)

Answer = dict[str, Any]
_SECTION = "router_settings"
# Type of a fallback -> its key in the router settings.
_KEYS = {
    "general": "fallbacks",
    "context_window": "context_window_fallbacks",
    "content_policy": "content_policy_fallbacks",
}
_TYPE = one_of(*_KEYS)
_NEW: Table = {
    "model": identifier().required,
    "fallback_models": text_list().required,
    "fallback_type": _TYPE,
}
_MAX_FALLBACKS = 50


@blueprint.post("/fallback")
@takes(body=_NEW)
async def set_fallback() -> Answer:
    """Set the fallbacks of a model. 400 for names that nobody serves, for doubles, for the model itself."""
    sent = await read_body()
    model, names = sent["model"], sent["fallback_models"]
    kind = sent.get("fallback_type") or "general"
    _refuse_wrong(model, names)
    await change_section(_SECTION, lambda stored: _with(stored, kind, model, names))
    name_effects(_SECTION, [_KEYS[kind]])
    return {
        "model": model,
        "fallback_models": names,
        "fallback_type": kind,
        "message": f"Fallback configuration set for {model}",
    }


def _refuse_wrong(model: str | None, names: list[str]) -> None:
    known = set(services().deployments.names())
    if model is None or model not in known:
        raise bad_request("No deployment serves this model", "model")
    if not names or len(names) > _MAX_FALLBACKS:
        raise bad_request(f"fallback_models needs 1 to {_MAX_FALLBACKS} names", "fallback_models")
    if len(set(names)) < len(names) or model in names:
        raise bad_request("fallback_models names a model twice, or the model itself", "fallback_models")
    missing = [name for name in names if name not in known]
    if missing:
        raise bad_request(f"No deployment serves {', '.join(missing)[:300]}", "fallback_models")


def _rows(stored: Section, kind: str) -> list[dict[str, Any]]:
    rows = stored.get(_KEYS[kind])
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _without(stored: Section, kind: str, model: str) -> list[dict[str, Any]]:
    left = ({name: names for name, names in row.items() if name != model} for row in _rows(stored, kind))
    return [row for row in left if row]


def _with(stored: Section, kind: str, model: str, names: list[str]) -> Section:
    return {**stored, _KEYS[kind]: [*_without(stored, kind, model), {model: names}]}


def _find(stored: Section, kind: str, model: str) -> list[str]:
    """Raises 404 (E2) when the model has no stored fallback of this type."""
    for row in _rows(stored, kind):
        if model in row:
            names: list[str] = row[model]
            return names
    raise PlainDenial(f"No {kind} fallback is stored for this model", status=404, is_nested=True)


@blueprint.get("/fallback/<path:model>")
@takes(query={"fallback_type": _TYPE})
async def show_fallback(model: str) -> Answer:
    kind = read_query(fallback_type="general")["fallback_type"]
    names = _find(await read_section(_SECTION), kind, model)
    name_effects(_SECTION, [_KEYS[kind]])
    return {"model": model, "fallback_models": names, "fallback_type": kind}


@blueprint.delete("/fallback/<path:model>")
@takes(query={"fallback_type": _TYPE})
async def delete_fallback(model: str) -> Answer:
    kind = read_query(fallback_type="general")["fallback_type"]

    def without(stored: Section) -> Section:
        _find(stored, kind, model)
        return {**stored, _KEYS[kind]: _without(stored, kind, model)}

    await change_section(_SECTION, without)
    return {
        "model": model,
        "fallback_type": kind,
        "message": f"Fallback configuration deleted for {model}",
    }
