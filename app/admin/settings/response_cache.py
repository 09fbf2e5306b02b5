"""The settings of the cache of answers in one form: what is stored as `litellm_settings.cache` and `.cache_params`.

A change takes effect at once, in every process. Once something is stored here the file's parameters no longer count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from quart import Blueprint

from ...backends import open_cache
from ...security.masking import masked
from ...services import services
from ...settings.declaration import boolean
from ...settings.response_cache import KNOWN_PARAMS, SCOPES, CacheParams, read_cache_params
from ...storage.cache import CacheAway
from ...web.fields import Table, bad_request, json_object, read_body, takes
from ..changes import VERSION, expected_version
from .fields import name_without_effect, refuse_references
from .sections import Section, change_section, kept, merged, read_stored

blueprint = Blueprint("admin_cache_settings", __name__)

Answer = dict[str, Any]
_NAME = "cache_settings"
_SECTION, _PARAMS, _SWITCH = "litellm_settings", "cache_params", "cache"
_SETTINGS: Table = {_NAME: json_object().required}
_TEST_SECONDS = 1.0
# (name, type of its input, default, choices, meaning): the switch, and keys of the contract's `cache_params`.
_FORM: tuple[tuple[str, str, Any, tuple[str, ...] | None, str], ...] = (
    (_SWITCH, "Boolean", False, None, "Answer a call that was answered before from the cache."),
    ("type", "Select", None, ("redis", "local"), "Where answers are kept; `local` is the memory of each process."),
    ("url", "String", None, None, "Address of Redis. Without url and host: the instance's own."),
    ("host", "String", None, None, "Host of Redis."),
    ("port", "Integer", 6379, None, "Port of Redis."),
    ("username", "String", None, None, "User of Redis."),
    ("password", "String", None, None, "Password of Redis."),
    ("ssl", "Boolean", False, None, "Speak TLS with Redis."),
    ("db", "Integer", 0, None, "Number of the database in Redis."),
    ("max_connections", "Integer", 16, None, "Most connections of one process to Redis."),
    ("namespace", "String", None, None, "Begin of every name in the cache."),
    ("ttl", "Float", 600, None, "Seconds that an answer is kept."),
    ("mode", "Select", "default_on", ("default_on", "default_off"), "Whether calls use it without asking for it."),
    ("supported_call_types", "List", None, None, "Only these operations; all without a choice."),
    ("scope", "Select", SCOPES[0], SCOPES, "Who shares answers."),
    ("max_entries", "Integer", 10_000, None, "Most answers in the memory of one process."),
    ("max_memory_mb", "Float", 64, None, "Most megabytes of them."),
    ("max_entry_mb", "Float", 1, None, "A larger answer is not kept."),
)


@blueprint.get("/cache/settings")
async def cache_settings() -> Answer:
    """The form, and what holds now: secrets masked out."""
    stored = await read_stored(_SECTION)
    values = _form_values(stored.values)
    fields = [
        {
            "field_name": name,
            "field_type": kind,
            "field_value": values.get(name),
            "field_description": meaning,
            "field_default": default,
            "options": list(choices) if choices is not None else None,
            "ui_field_name": name.replace("_", " ").capitalize(),
            "link": None,
        }
        for name, kind, default, choices, meaning in _FORM
    ]
    types = {"node": "One Redis server"}
    return {"fields": fields, "current_values": values, "redis_type_descriptions": types, "version": stored.version}


@blueprint.post("/cache/settings")
@takes(body={**_SETTINGS, **VERSION})
async def update_cache_settings() -> Answer:
    """Merge into what holds; null and "" take a key out. Saving turns the cache on unless it was turned off by name."""
    sent = await read_body()
    params, switch = _sent(sent[_NAME])

    def changed(stored: Section) -> Section:
        was = _current(stored)
        # Addresses and passwords stand side by side: who changes an address sends the password again.
        now = merged({}, kept({**masked(was), **params}, was, _NAME))
        _checked(now)
        is_on = {} if switch is None and _SWITCH in sent[_NAME] else {_SWITCH: _is_on(stored, switch)}
        return {**{name: value for name, value in stored.items() if name != _SWITCH}, **is_on, _PARAMS: now}

    stored = await change_section(_SECTION, changed, version=expected_version(sent))
    _name_unknown(params)
    return {
        "message": "Cache settings updated successfully",
        "status": "success",
        "settings": _form_values(stored.values),
        "version": stored.version,
    }


@blueprint.post("/cache/settings/test")
@takes(body=_SETTINGS)
async def test_cache_settings() -> Answer:
    """Whether Redis takes a value by these settings, which are laid over those that hold; nothing is stored."""
    params, _ = _sent((await read_body())[_NAME])
    was = _current((await read_stored(_SECTION)).values)
    read = _checked(merged({}, kept({**masked(was), **params}, was, _NAME)))
    _name_unknown(params)
    if read.redis_url is None:
        return {"status": "success", "message": "Answers are kept in memory, each process its own", "error": None}
    # In a thread, since the client of Redis may have to be loaded first.
    cache = await asyncio.to_thread(open_cache, read.redis_url)
    try:
        await cache.set("connection-test", "1", _TEST_SECONDS)
    except CacheAway as problem:
        text = f"Redis does not take values: {problem}"
        return {"status": "failed", "message": text, "error": text}
    finally:
        await cache.close()
    return {"status": "success", "message": "Redis takes values", "error": None}


# ---- values --------------------------------------------------------------------------------------------------------


def _sent(values: Mapping[str, Any]) -> tuple[Section, bool | None]:
    """(parameters, the switch or None) of a form. Raises 400 for a switch that is none, and for a reference."""
    refuse_references(values, _NAME)
    given = {name: None if value == "" else value for name, value in values.items()}
    switch = given.pop(_SWITCH, None)
    try:
        return given, None if switch is None else boolean(switch)
    except ValueError as problem:
        raise bad_request(f"{_NAME}.{_SWITCH} {problem}", _SWITCH) from None


def _current(stored: Section) -> Section:
    """The parameters that hold, in the clear: those that are stored, else those of the file."""
    params = stored.get(_PARAMS)
    return dict(params if isinstance(params, Mapping) else services().settings.cache_params)


def _is_on(stored: Section, switch: bool | None) -> bool:
    return switch if switch is not None else stored.get(_SWITCH) is not False


def _form_values(stored: Section) -> Answer:
    is_on = stored.get(_SWITCH, services().settings.caches_answers)
    return {_SWITCH: is_on, **masked(_current(stored))}


def _checked(params: Section) -> CacheParams:
    """The parameters as the cache reads them. Raises 400 for what cannot be meant, and for what would have no effect.

    Names that nobody knows are stored: forms of the field have more of them.
    """
    known = {name: value for name, value in params.items() if name in KNOWN_PARAMS}
    try:
        read = read_cache_params(known, services().settings.redis_url)
    except ValueError as problem:
        raise bad_request(f"{_NAME} {problem}", _NAME) from None
    if read.warnings:
        raise bad_request(read.warnings[0], _NAME)
    return read


def _name_unknown(params: Mapping[str, Any]) -> None:
    name_without_effect(
        f"{_NAME}.{name}" for name, value in params.items() if value is not None and name not in KNOWN_PARAMS
    )
