"""Settings of dashboards: how they look and what they show, defaults of new users and teams, sign-in by SSO.

The answers carry `field_schema`, from which a dashboard draws its form. What this version does not enforce is named in
`x-quarterdeck-no-effect`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart import Blueprint

from ...models import SpendLog
from ...security.masking import MASK, masked
from ...services import services
from ...settings.config_file import http_address
from ...web.fields import (
    Field,
    Table,
    bad_request,
    duration,
    email,
    flag,
    identifier,
    json_object,
    money,
    one_of,
    read_body,
    table_schema,
    takes,
    text,
    text_list,
    whole,
)
from ..changes import VERSION, expected_version
from .fields import config_fields, name_effects, name_without_effect, refuse_references, refuse_wrong
from .sections import Section, Stored, change_section, kept, merged, read_section, read_stored

blueprint = Blueprint("admin_ui_settings", __name__)

Answer = dict[str, Any]
_MAX_COUNTED = 10_001
_DEFAULTS = "litellm_settings"


def address() -> Field:
    """An http or https address; "" is null. Raises 400."""
    read_text = text(2000).read

    def read(value: Any) -> str | None:
        if not (written := read_text(value).strip()):
            return None
        try:
            return http_address(written)
        except ValueError as problem:
            raise bad_request(f"This {problem}") from None

    return Field(read, schema={"type": "string", "maxLength": 2000, "format": "uri"})


# Only a dashboard acts by these; the ones in _UNENFORCED would need the gateway's help as well.
UI: Table = {
    "enable_chat_ui": flag(),
    "disable_custom_api_keys": flag(),
    "disable_model_add_for_internal_users": flag(),
    "disable_team_admin_delete_team_user": flag(),
    "enabled_ui_pages_internal_users": text_list(),
    "scope_user_search_to_org": flag(),
    "team_admin_editable_team_fields": text_list(),
    "require_auth_for_public_ai_hub": flag(),
}
# The gateway's own setting of this name, kept beside its others.
_ENFORCED = "disable_custom_api_keys"
_UNENFORCED = tuple(name for name in UI if name not in ("enable_chat_ui", "enabled_ui_pages_internal_users", _ENFORCED))
THEME: Table = {"logo_url": address(), "logo_url_dark": address(), "favicon_url": address()}
INTERNAL_USER: Table = {
    "user_role": one_of("proxy_admin", "proxy_admin_viewer", "internal_user", "internal_user_viewer"),
    "max_budget": money(),
    "budget_duration": duration(),
    "models": text_list(),
    "teams": text_list(),
}
TEAM: Table = {
    "max_budget": money(),
    "budget_duration": duration(),
    "tpm_limit": whole(),
    "rpm_limit": whole(),
    "models": text_list(),
    "team_member_permissions": text_list(),
}
SSO: Table = {
    "google_client_id": identifier(500),
    "google_client_secret": text(2000),
    "microsoft_client_id": identifier(500),
    "microsoft_client_secret": text(2000),
    "microsoft_tenant": identifier(500),
    "generic_client_id": identifier(500),
    "generic_client_secret": text(2000),
    "generic_authorization_endpoint": address(),
    "generic_token_endpoint": address(),
    "generic_userinfo_endpoint": address(),
    "proxy_base_url": address(),
    "user_email": email(),
    "ui_access_mode": identifier(),
    "role_mappings": json_object(),
    "team_mappings": json_object(),
}


def _form(stored: Stored, table: Table, description: str, **more: Any) -> Answer:
    """The contract's shape of settings: a value for every field, and the schema of the form."""
    schema = {"description": description, "properties": table_schema(table)["properties"]}
    values = {name: stored.values.get(name) for name in table}
    return {"values": values, "field_schema": schema, **more, "version": stored.version}


def _updated(stored: Stored, table: Table, what: str) -> Answer:
    settings = {name: stored.values.get(name) for name in table}
    message = f"{what} updated successfully"
    return {"message": message, "status": "success", "settings": settings, "version": stored.version}


async def _change(section: str, sent: Mapping[str, Any]) -> Stored:
    """Merge into a section of its own; an empty text clears, as null does."""
    for name, value in sent.items():
        refuse_references(value, name)
    values = {name: None if value == "" else value for name, value in sent.items() if name != "version"}
    return await change_section(
        section,
        lambda stored: merged(stored, {name: kept(value, stored.get(name), name) for name, value in values.items()}),
        version=expected_version(sent),
    )


# ---- the dashboard itself: public, so nothing in it is a secret ----------------------------------------------------


@blueprint.get("/get/ui_settings")
async def ui_settings() -> Answer:
    stored = await read_stored("ui_settings")
    values = {_ENFORCED: services().settings.disable_custom_api_keys, **stored.values}
    return _form(Stored(values, stored.version), UI, "What dashboards show", source="db")


@blueprint.patch("/update/ui_settings")
@takes(body={**UI, **VERSION})
async def update_ui_settings() -> Answer:
    sent = await read_body()
    name_without_effect(f"ui_settings.{name}" for name in _UNENFORCED if sent.get(name))
    stored = await _change("ui_settings", sent)
    if _ENFORCED in sent:
        await change_section(_DEFAULTS, lambda was: {**was, _ENFORCED: sent[_ENFORCED]})
    return _updated(stored, UI, "UI settings")


@blueprint.get("/get/ui_theme_settings")
async def ui_theme_settings() -> Answer:
    return _form(await read_stored("ui_theme_settings"), THEME, "Logo and icon of dashboards")


@blueprint.patch("/update/ui_theme_settings")
@takes(body={**THEME, **VERSION})
async def update_ui_theme_settings() -> Answer:
    stored = await _change("ui_theme_settings", await read_body())
    answer = _updated(stored, THEME, "UI theme settings")
    return {**answer, "theme_config": answer["settings"]}


@blueprint.get("/get/user_banner")
async def user_banner() -> Answer:
    return {"enabled": False, "message": "", "severity": "info", "revision": 0}


@blueprint.get("/sso/get/ui_settings")
async def dashboard_settings() -> Answer:
    """What a dashboard asks before it draws itself."""
    settings = services().settings
    return {
        "PROXY_BASE_URL": settings.proxy_base_url,
        "PROXY_LOGOUT_URL": settings.environment.get("PROXY_LOGOUT_URL"),
        "LITELLM_UI_API_DOC_BASE_URL": settings.api_doc_base_url,
        "DEFAULT_TEAM_DISABLED": False,
        "SSO_ENABLED": False,
        "NUM_SPEND_LOGS_ROWS": await _counted_logs(),
        "DISABLE_EXPENSIVE_DB_QUERIES": False,
    }


async def _counted_logs() -> int:
    """Rows of the spend log, counted up to a bound: dashboards only ask whether they are many."""
    has_many = await SpendLog.all().offset(_MAX_COUNTED).limit(1).values_list("request_id")
    return _MAX_COUNTED if has_many else await SpendLog.all().count()


# ---- defaults of new users and teams, kept where config.yaml has them ----------------------------------------------


async def _defaults(key: str) -> Stored:
    """What is stored, else what the file says."""
    stored = await read_stored(_DEFAULTS)
    name_effects(_DEFAULTS, [key])
    return Stored(_current(stored.values, key), stored.version)


def _current(stored: Section, key: str) -> Section:
    values = stored.get(key)
    if not isinstance(values, dict):
        values = config_fields()[_DEFAULTS][key].value_in(services().settings)
    return dict(values) if isinstance(values, dict) else {}


async def _change_defaults(key: str, sent: Mapping[str, Any]) -> Stored:
    values = {
        name: float(value) if name == "max_budget" and value is not None else value for name, value in sent.items()
    }
    values.pop("version", None)

    def changed(stored: Section) -> Section:
        after = {**stored, key: merged(_current(stored, key), values)}
        refuse_wrong(_DEFAULTS, {key: after[key]})
        return after

    name_effects(_DEFAULTS, [key])
    stored = await change_section(_DEFAULTS, changed, version=expected_version(sent))
    return Stored(_current(stored.values, key), stored.version)


@blueprint.get("/get/internal_user_settings")
async def internal_user_settings() -> Answer:
    return _form(await _defaults("default_internal_user_params"), INTERNAL_USER, "Defaults of new users")


@blueprint.patch("/update/internal_user_settings")
@takes(body={**INTERNAL_USER, **VERSION})
async def update_internal_user_settings() -> Answer:
    stored = await _change_defaults("default_internal_user_params", await read_body())
    return _updated(stored, INTERNAL_USER, "Internal user settings")


@blueprint.get("/get/default_team_settings")
async def default_team_settings() -> Answer:
    return _form(await _defaults("default_team_params"), TEAM, "Defaults of new teams")


@blueprint.patch("/update/default_team_settings")
@takes(body={**TEAM, **VERSION})
async def update_default_team_settings() -> Answer:
    return _updated(await _change_defaults("default_team_params", await read_body()), TEAM, "Default team settings")


# ---- sign-in by SSO: stored for the version that has it ------------------------------------------------------------


@blueprint.get("/get/sso_settings")
async def sso_settings() -> Answer:
    stored = await read_stored("sso_settings")
    name_without_effect(f"sso_settings.{name}" for name in stored.values)
    return _form(_masked(stored), SSO, "Sign-in by SSO. Without effect in this version.")


@blueprint.patch("/update/sso_settings")
@takes(body={**SSO, **VERSION})
async def update_sso_settings() -> Answer:
    sent = await read_body()
    _refuse_moved_secret(await read_section("sso_settings"), sent)
    name_without_effect(f"sso_settings.{name}" for name in sent if name in SSO)
    return _updated(_masked(await _change("sso_settings", sent)), SSO, "SSO settings")


def _masked(stored: Stored) -> Stored:
    return Stored(masked(stored.values), stored.version)


def _refuse_moved_secret(stored: Section, sent: Mapping[str, Any]) -> None:
    """The secret of a generic provider stays with the addresses that it was given for."""
    moved = [
        name for name, value in sent.items() if name.startswith("generic_") and name.endswith("_endpoint") and value
    ]
    is_sent = sent.get("generic_client_secret") not in (None, "", MASK)
    if stored.get("generic_client_secret") and not is_sent and any(sent[name] != stored.get(name) for name in moved):
        raise bad_request("The provider has another address: send generic_client_secret again", "generic_client_secret")
