"""Configuration over the API: sections that are merged, single fields, and what an instance goes by.

config.yaml is the base, what is stored here wins. The answer's headers name the settings that do nothing in this
version (`x-quarterdeck-no-effect`) and those that wait for the next start (`x-quarterdeck-after-restart`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from quart import Blueprint

from ...errors import PlainDenial
from ...protocols.providers import PROVIDERS
from ...security.masking import MASK, masked
from ...services import services
from ...settings import declared_settings
from ...storage.stored_settings import ENVIRONMENT, SECTIONS, keys_of_addresses, operator_variables
from ...web.fields import Table, bad_request, json_object, one_of, read_body, read_query, takes, text, text_list, whole
from ..changes import VERSION, expected_version
from .fields import (
    RESTART_HEADER,
    ConfigField,
    config_fields,
    name_effects,
    name_in_header,
    name_without_effect,
    refuse_references,
    refuse_wrong,
)
from .sections import Section, anything, change_section, kept, merged, read_section, read_stored

blueprint = Blueprint("admin_config", __name__)

Answer = dict[str, Any]
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}", re.ASCII)
_MAX_VARIABLE = 16_384
# Settings of the general section that some clients send beside it.
_BESIDE: Table = {
    "alerting": text_list(),
    "alerting_threshold": whole(),
    "alert_types": text_list(),
    "alert_to_webhook_url": json_object(),
    "alerting_args": json_object(),
}
_UPDATE: Table = {**dict.fromkeys((*SECTIONS, ENVIRONMENT), json_object()), **_BESIDE}
# Clients add one callback at a time.
_JOINED = ("success_callback", "failure_callback")
_SECTION = one_of(*SECTIONS)
_NAMED: Table = {"field_name": text().required, "config_type": _SECTION}
_DELETE: Table = {**_NAMED, **VERSION}
_FIELD: Table = {**_DELETE, "field_value": anything()}


# ---- whole sections ------------------------------------------------------------------------------------------------


@blueprint.post("/config/update")
@takes(body=_UPDATE, is_strict=True)
async def update_config() -> Answer:
    """Merge what was sent into the stored sections; null takes a key out."""
    sent = await read_body()
    beside = {name: sent.pop(name) for name in _BESIDE if name in sent}
    if beside:
        sent["general_settings"] = {**beside, **sent.get("general_settings", {})}
    for name, values in sent.items():
        _refuse_variables(values) if name == ENVIRONMENT else refuse_wrong(name, values)
    for name, values in sent.items():
        await change_section(name, lambda stored, values=values: _joined(stored, values))  # type: ignore[misc]
        _name_variables(values) if name == ENVIRONMENT else name_effects(name, values)
    return {"message": "Config updated successfully"}


def _joined(stored: Section, sent: Mapping[str, Any]) -> Section:
    values = {name: kept(value, stored.get(name), name) for name, value in sent.items()}
    for name in _JOINED:
        if isinstance(values.get(name), list) and isinstance(stored.get(name), list):
            values[name] = [*stored[name], *(item for item in values[name] if item not in stored[name])]
    return merged(stored, values)


def _refuse_variables(sent: Mapping[str, Any]) -> None:
    """Raise 400 for what is no environment variable, and for those that only the operator sets."""
    refused, keys = operator_variables(), keys_of_addresses()
    for name, value in sent.items():
        if name in keys and value and value != MASK and sent.get(keys[name]) in (None, "", MASK):
            raise bad_request(
                f"Send {keys[name]} with {name}: a key goes only to the address that it was given for", name
            )
        if not _VARIABLE.fullmatch(name):
            raise bad_request("environment_variables has a name that is none; use letters, digits and _", ENVIRONMENT)
        if name in refused:
            raise bad_request(f"{name} is set in the environment of the process only", name)
        if value is not None and not isinstance(value, str | int | float):
            raise bad_request(f"environment_variables.{name} must be text", name)
        if len(str(value)) > _MAX_VARIABLE:
            raise bad_request(f"environment_variables.{name} is longer than {_MAX_VARIABLE} characters", name)
        refuse_references(value, name)


def _name_variables(names: Mapping[str, Any]) -> None:
    """Variables are read at start; those that nothing reads do nothing."""
    read = {item.metadata["env"] for item in declared_settings()} | {"AZURE_API_VERSION"}
    for provider in PROVIDERS.values():
        read |= {provider.key_variable, provider.base_variable}
    name_without_effect(f"{ENVIRONMENT}.{name}" for name in names if name not in read)
    name_in_header(RESTART_HEADER, [f"{ENVIRONMENT}.{name}" for name in names if name in read])


@blueprint.get("/config/yaml")
async def show_config() -> Answer:
    """What this instance goes by, sections as in config.yaml, secrets masked out; stored values are in it."""
    sections: Answer = {}
    for section, fields in config_fields().items():
        stored = await read_section(section)
        own = {name: field.value_in(services().settings) for name, field in fields.items() if field.setting is not None}
        sections[section] = {name: value for name, value in {**own, **masked(stored)}.items() if value is not None}
    variables = await read_section(ENVIRONMENT)
    models = [
        {"model_name": deployment.model_name, "litellm_params": deployment.public_params()}
        for deployment in services().deployments.all()[:1000]
    ]
    return {**sections, ENVIRONMENT: masked(variables, is_whole=True), "model_list": models}


# ---- single fields -------------------------------------------------------------------------------------------------


@blueprint.get("/config/list")
@takes(query={"config_type": _SECTION})
async def list_fields() -> list[Answer]:
    """Every field of a section: its value, where the value comes from, and whether a change takes effect at once."""
    section = read_query(config_type="general_settings")["config_type"]
    stored = await read_section(section)
    return [_row(field, stored) for field in config_fields()[section].values()]


def _row(field: ConfigField, stored: Section) -> Answer:
    value, source = _value(field, stored)
    return {
        "field_name": field.name,
        "field_type": _type_of(field),
        "field_description": _description(field),
        "field_value": value,
        "stored_in_db": True if source == "db" else False if source in ("config", "env") else None,
        "field_default_value": field.default(),
        "premium_field": False,
        "nested_fields": None,
        "field_options": None,
        "field_tab": None,
        "source": source,
        "editable": field.is_runtime,
    }


def _value(field: ConfigField, stored: Section) -> tuple[Any, str]:
    """(value as JSON without secrets, where it comes from)."""
    if field.name in stored and not field.is_operators:
        return masked({field.name: stored[field.name]})[field.name], "db"
    settings = services().settings
    return field.value_in(settings), field.base_source(settings)


def _type_of(field: ConfigField) -> str:
    """The dashboard's word for the input that a field gets."""
    if field.setting is None:
        return "Any"
    default = field.setting.default
    if isinstance(default, bool):
        return "Boolean"
    names = {
        "whole": "Integer",
        "positive": "Float",
        "money": "Float",
        "network_ranges": "List",
        "mapping": "Dictionary",
    }
    return names.get(field.setting.metadata["parse"].__name__, "String")


def _description(field: ConfigField) -> str:
    if field.setting is None:
        return "Always on." if field.has_effect else "Without effect in this version."
    doc = str(field.setting.metadata["doc"])
    if field.is_operators:
        return f"{doc} Set by file or environment only."
    return doc if field.is_runtime else f"{doc} A change takes effect after a restart."


@blueprint.get("/config/field/info")
@takes(query=_NAMED)
async def field_info() -> Answer:
    params = read_query(config_type="general_settings")
    field = _known(params["config_type"], params["field_name"])
    stored = await read_stored(field.section)
    value, source = _value(field, stored.values)
    if value is None:
        raise PlainDenial(f"Field name={field.name} is not set", status=400, is_nested=True)
    return {
        "field_name": field.name,
        "field_value": value,
        "source": source,
        "editable": field.is_runtime,
        "version": stored.version,
    }


@blueprint.post("/config/field/update")
@takes(body=_FIELD)
async def update_field() -> Answer:
    """Store one field, whole; the answer is the row of its section, secrets masked out."""
    sent = await read_body()
    field = _known(sent.get("config_type") or "general_settings", sent["field_name"])
    value = {field.name: sent.get("field_value")}
    refuse_wrong(field.section, value)
    stored = await change_section(
        field.section,
        lambda was: merged(was, {field.name: kept(value[field.name], was.get(field.name), field.name)}),
        version=expected_version(sent),
    )
    name_effects(field.section, [field.name])
    return {"param_name": field.section, "param_value": masked(stored.values), "version": stored.version}


@blueprint.post("/config/field/delete")
@takes(body=_DELETE)
async def delete_field() -> Answer:
    """Take a stored field out, so that the file's value counts again. 400 when it is not stored."""
    sent = await read_body()
    field = _known(sent.get("config_type") or "general_settings", sent["field_name"])

    def without(stored: Section) -> Section:
        if field.name not in stored:
            raise PlainDenial(f"Field name={field.name} is not stored", status=400, is_nested=True)
        return {name: value for name, value in stored.items() if name != field.name}

    stored = await change_section(field.section, without, version=expected_version(sent))
    name_effects(field.section, [field.name])
    return {"param_name": field.section, "param_value": masked(stored.values), "version": stored.version}


def _known(section: str, name: str | None) -> ConfigField:
    """Raises 400 for a name that no section has; E2, as the contract writes it."""
    field = config_fields()[section].get(name or "")
    if field is None:
        raise PlainDenial(f"Invalid field={(name or '')[:100]} passed in.", status=400, is_nested=True)
    return field
