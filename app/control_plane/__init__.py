"""The console: HTML pages under /ui that administer workers over their HTTP contract, and nothing else.

It never touches a table, a provider or a price of its own instance; an instance without `worker_registry` is
administered through the same client, in memory.
"""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Response, abort, g, request, send_from_directory
from werkzeug.exceptions import HTTPException, NotFound

from app.errors import ServiceUnavailable
from app.web.assets import STATIC_FOLDER, TEMPLATE_FOLDER

from . import keys, login, models, spend, teams, users, workers
from .csrf import is_forged
from .formatting import FILTERS
from .rendering import (
    TEMPLATE_GLOBALS,
    assets,
    problem,
    secure,
    show_database_away,
    show_http_error,
    show_not_found,
    show_refused,
    show_session_expired,
    show_unexpected,
    show_unreachable,
    template_context,
)
from .session import load_session, public
from .worker_errors import ODD_ANSWER, SessionExpired, WorkerRefused, WorkerUnreachable

__all__ = ["console_blueprint"]

console_blueprint = Blueprint("console", __name__, url_prefix="/ui", template_folder=str(TEMPLATE_FOLDER))
for area in (login, workers, keys, models, teams, users, spend):
    console_blueprint.register_blueprint(area.blueprint)

# A plain form post signs in without a page of ours before it; choosing a theme changes nothing that matters.
_WITHOUT_TOKEN = {"console.login.log_in", "console.login.choose_theme"}


@console_blueprint.before_request
async def guard() -> Response | None:
    """Load the session, then refuse changes that our own pages did not ask for."""
    if request.endpoint == "console.static_file":
        return None
    g.session = await load_session()
    if await is_forged(needs_token=request.endpoint not in _WITHOUT_TOKEN):
        text = (
            "The form is older than your sign-in, or it comes from another address. Nothing was changed. Open the page "
            "again. Behind a proxy, PROXY_BASE_URL of this console must be the address that your browser shows."
        )
        return await problem(status=403, title="This form cannot be accepted", text=text, icon_name="lock")
    return None


@console_blueprint.after_request
async def add_headers(response: Response) -> Response:
    return secure(response)


@console_blueprint.context_processor
def add_context() -> dict[str, Any]:
    return template_context()


@console_blueprint.get("/static/<path:path>")
@public
async def static_file(path: str) -> Response:
    """A file of `static/`. With the current hash in the address a browser may keep it for a year."""
    file = assets.get(path)
    if file is None:
        abort(404)
    response = await send_from_directory(STATIC_FOLDER, path)
    is_pinned = request.args.get("v") == file.version
    response.headers["Cache-Control"] = f"public, max-age={31536000 if is_pinned else 300}"
    response.headers["Vary"] = "Accept-Encoding"
    return response


@console_blueprint.get("/<path:rest>")
@public
async def no_such_page(rest: str) -> Response:
    abort(404)


for name, function in FILTERS.items():
    console_blueprint.add_app_template_filter(function, name)
for name, provided in TEMPLATE_GLOBALS.items():
    console_blueprint.add_app_template_global(provided, name)
console_blueprint.register_error_handler(WorkerUnreachable, show_unreachable)
console_blueprint.register_error_handler(SessionExpired, show_session_expired)
console_blueprint.register_error_handler(WorkerRefused, show_refused)
console_blueprint.register_error_handler(ServiceUnavailable, show_database_away)
console_blueprint.register_error_handler(HTTPException, show_http_error)
console_blueprint.register_error_handler(NotFound, show_not_found)
for odd in ODD_ANSWER:
    console_blueprint.register_error_handler(odd, show_unexpected)
