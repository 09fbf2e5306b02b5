"""/openapi.json, and /docs: the same as a page, from files of our own, so that it works where there is no internet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from quart import Blueprint, Response, current_app, redirect, render_template, send_from_directory
from werkzeug.wrappers import Response as Redirection

from ..errors import PlainDenial
from ..web.assets import STATIC_FOLDER, Asset, Assets
from .document import EXTENSION, ApiDocument

api_docs_blueprint = Blueprint("api_docs", __name__)

# Name below /docs/ -> file below static/.
_PATHS = {
    "swagger-ui-bundle.js": "vendor/swagger-ui-bundle.js",
    "swagger-ui.css": "vendor/swagger-ui.css",
    "api_docs.js": "api_docs.js",
    "api_docs.css": "api_docs.css",
    "tokens.css": "tokens.css",
    "icon.svg": "icon.svg",
}
_assets = Assets()
# The page writes no script and no style of its own; Swagger UI draws its arrows from data addresses.
_POLICY = (
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; object-src 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class PageFile:
    """A file as the page names it; `address` is relative, so that a prefix of a proxy does not matter."""

    address: str
    integrity: str


def page_file(name: str) -> PageFile:
    """KeyError for a file that the page does not have."""
    asset = _assets[_PATHS[name]]
    return PageFile(f"docs/{name}?v={asset.version}", asset.integrity)


@api_docs_blueprint.get("/openapi.json")
async def show_openapi() -> Response:
    """This document."""
    document = cast(ApiDocument, current_app.extensions[EXTENSION])
    return Response(document.content, content_type="application/json")


@api_docs_blueprint.get("/docs")
async def show_docs() -> Response:
    """The API as a page, to read and to try."""
    html = await render_template("api_docs.html", file=page_file)
    headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "same-origin", "Cache-Control": "no-store"}
    return Response(html, content_type="text/html; charset=utf-8", headers=headers)


@api_docs_blueprint.get("/docs/<path:name>")
async def send_page_file(name: str) -> Response:
    """A script or style of /docs."""
    file: Asset | None = _assets.get(_PATHS.get(name, ""))
    if file is None:
        raise PlainDenial("The page has no such file", status=404)
    response = await send_from_directory(STATIC_FOLDER, file.path)
    # Every address on the page has the hash of the content.
    response.headers["Cache-Control"] = "public, max-age=86400"
    return response


@api_docs_blueprint.get("/redoc")
async def show_redoc() -> Redirection:
    """The field's other address of the same page."""
    return redirect("docs")
