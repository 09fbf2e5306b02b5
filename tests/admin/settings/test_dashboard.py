"""Settings of dashboards, and the forms that they are drawn from."""

from __future__ import annotations

from typing import Any

import httpx
from quart import Quart

from app.models import ConfigEntry
from app.services import EXTENSION
from tests.admin.conftest import Caller


async def change(who: Caller, path: str, **body: Any) -> httpx.Response:
    return await who.client.patch(path, json=body, headers=who.headers)


async def test_a_dashboard_reads_its_settings_without_a_key(admin: Caller, client: httpx.AsyncClient) -> None:
    body = (await client.get("/get/ui_settings")).json()
    assert set(body) == {"values", "field_schema", "source", "version"}
    assert body["values"]["enable_chat_ui"] is None
    assert "enable_chat_ui" in body["field_schema"]["properties"]
    answer = await change(admin, "/update/ui_settings", enable_chat_ui=True, scope_user_search_to_org=True)
    assert (answer.status_code, answer.json()["status"]) == (200, "success")
    assert answer.headers["x-quarterdeck-no-effect"] == "ui_settings.scope_user_search_to_org"
    assert (await client.get("/get/ui_settings")).json()["values"]["enable_chat_ui"] is True
    unknown = await change(admin, "/update/ui_settings", enable_chat=True)
    assert unknown.headers["x-quarterdeck-unknown-fields"] == "enable_chat"


async def test_the_switch_that_the_gateway_enforces_is_stored_as_its_setting(admin: Caller) -> None:
    answer = await change(admin, "/update/ui_settings", disable_custom_api_keys=True)
    assert "x-quarterdeck-no-effect" not in answer.headers
    rows = (await admin.get("/config/list", config_type="litellm_settings")).json()
    row = next(row for row in rows if row["field_name"] == "disable_custom_api_keys")
    assert (row["field_value"], row["source"], row["editable"]) == (True, "db", True)


async def test_who_read_an_older_version_is_told_so(admin: Caller) -> None:
    version = (await change(admin, "/update/ui_settings", enable_chat_ui=True)).json()["version"]
    newer = await change(admin, "/update/ui_settings", enable_chat_ui=False, version=version)
    assert (newer.status_code, newer.json()["version"]) == (200, version + 1)
    assert (await change(admin, "/update/ui_settings", enable_chat_ui=True, version=version)).status_code == 409


async def test_a_theme_moves_logo_and_icon(admin: Caller, client: httpx.AsyncClient) -> None:
    assert (await client.get("/get/ui_theme_settings")).json()["values"]["logo_url"] is None
    for path in ("/get_image", "/get_favicon", "/favicon.ico"):
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/svg+xml; charset=utf-8")
    addresses = {"logo_url": "https://a.example/l.png", "logo_url_dark": "https://a.example/d.png"}
    assert (await change(admin, "/update/ui_theme_settings", **addresses)).status_code == 200
    for theme, address in (("light", addresses["logo_url"]), ("dark", addresses["logo_url_dark"])):
        answer = await client.get("/get_image", params={"theme": theme})
        assert (answer.status_code, answer.headers["Location"]) == (307, address)
    assert (await client.get("/get_favicon")).status_code == 200
    await change(admin, "/update/ui_theme_settings", logo_url="", logo_url_dark=None)
    assert (await client.get("/get_image")).status_code == 200
    assert (await change(admin, "/update/ui_theme_settings", logo_url="javascript:alert(1)")).status_code == 400


async def test_defaults_of_users_and_teams_stand_where_the_file_has_them(admin: Caller, vera: Caller) -> None:
    await change(admin, "/update/internal_user_settings", max_budget=1.5, models=["sample-chat"])
    await change(admin, "/update/internal_user_settings", budget_duration="30d", models=None)
    values = (await vera.get("/get/internal_user_settings")).json()["values"]
    assert (values["max_budget"], values["budget_duration"], values["user_role"]) == (1.5, "30d", None)
    await change(admin, "/update/default_team_settings", tpm_limit=100)
    assert (await vera.get("/get/default_team_settings")).json()["values"]["tpm_limit"] == 100
    stored = (await admin.get("/config/yaml")).json()["litellm_settings"]
    assert stored["default_team_params"] == {"tpm_limit": 100}
    assert stored["default_internal_user_params"]["max_budget"] == 1.5
    assert (await change(admin, "/update/internal_user_settings", user_role="king")).status_code == 422


async def test_sso_secrets_are_encrypted_and_stay_with_their_address(admin: Caller, instance: Quart) -> None:
    secret = "secret-of-the-identity-provider"
    body = {"generic_client_secret": secret, "generic_token_endpoint": "https://idp.example/token"}
    answer = await change(admin, "/update/sso_settings", **body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["settings"]["generic_client_secret"] == "****"
    assert "sso_settings.generic_token_endpoint" in answer.headers["x-quarterdeck-no-effect"]
    assert secret not in (await admin.get("/get/sso_settings")).text
    with instance.extensions[EXTENSION].database.active():
        before = (await ConfigEntry.get(param_name="sso_settings")).param_value
    assert secret not in str(before)
    moved = {"generic_client_secret": "****", "generic_token_endpoint": "https://evil.example/token"}
    assert (await change(admin, "/update/sso_settings", **moved)).status_code == 400
    assert (await change(admin, "/update/sso_settings", generic_client_secret="****")).status_code == 200
    with instance.extensions[EXTENSION].database.active():
        assert (await ConfigEntry.get(param_name="sso_settings")).param_value == before


async def test_changes_are_for_admins_and_the_rest_for_readers(admin: Caller, vera: Caller, alice: Caller) -> None:
    for name in ("ui_settings", "ui_theme_settings", "internal_user_settings", "default_team_settings", "sso_settings"):
        path = f"/update/{name}"
        assert [(await change(one, path, a=1)).status_code for one in (alice, vera, admin)] == [401, 403, 200], path
    for name in ("internal_user_settings", "default_team_settings", "sso_settings"):
        assert [(await one.get(f"/get/{name}")).status_code for one in (alice, vera)] == [401, 200], name
