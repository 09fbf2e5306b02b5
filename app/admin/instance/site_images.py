"""Logo and icon for dashboards and browsers: an admin's, else our own. Public, since a sign-in page shows them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from quart import Blueprint, Response, redirect
from werkzeug.wrappers import Response as WerkzeugResponse

from ...storage.database import DATABASE_AWAY
from ...web.assets import STATIC_FOLDER
from ...web.fields import one_of, read_query, takes
from ..settings.sections import read_section

blueprint = Blueprint("admin_site_images", __name__)

_IMAGE = {"theme": one_of("light", "dark"), "variant": one_of("full", "monogram")}
_ONE_HOUR = "public, max-age=3600"


@blueprint.get("/get_image")
@takes(query=_IMAGE)
async def logo() -> Response | WerkzeugResponse:
    """The logo of the theme settings for `theme`, or our icon."""
    theme = read_query()["theme"]
    settings = await _theme_settings()
    return _at((settings.get("logo_url_dark") if theme == "dark" else None) or settings.get("logo_url"))


@blueprint.get("/get_favicon")
async def configured_icon() -> Response | WerkzeugResponse:
    return _at((await _theme_settings()).get("favicon_url"))


@blueprint.get("/favicon.ico")
async def icon() -> Response:
    return _own_icon()


async def _theme_settings() -> dict[str, Any]:
    try:
        return await read_section("ui_theme_settings")
    except DATABASE_AWAY:
        return {}  # a page about the outage may have its logo


def _at(address: Any) -> Response | WerkzeugResponse:
    return redirect(address, 307) if isinstance(address, str) and address else _own_icon()


def _own_icon() -> Response:
    return Response(_icon(), mimetype="image/svg+xml", headers={"Cache-Control": _ONE_HOUR})


@lru_cache(maxsize=1)
def _icon() -> bytes:
    return (STATIC_FOLDER / "icon.svg").read_bytes()
