"""From data to HTML: whole pages, single blocks for htmx, error pages, and the headers that all of them carry."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog
from markupsafe import Markup
from quart import Response, current_app, g, render_template, request, url_for
from werkzeug.exceptions import HTTPException, NotFound

from app.errors import ServiceUnavailable
from app.services import services
from app.version import VERSION
from app.web.assets import Assets

from .csrf import csrf_token
from .registry import Worker
from .session import ConsoleSession, redirect_browser, sign_in_address
from .worker_errors import SessionExpired, WorkerRefused, WorkerUnreachable

THEMES = ("system", "light", "dark")
THEME_COOKIE = "qd_theme"
SECTIONS = (
    ("keys", "Keys", "key-round", "console.keys.list_keys"),
    ("models", "Models", "boxes", "console.models.list_models"),
    ("teams", "Teams", "users", "console.teams.list_teams"),
    ("users", "Users", "user-round", "console.users.list_users"),
    ("spend", "Spend", "chart-column", "console.spend.show_spend"),
)
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

assets = Assets()
log = structlog.get_logger(__name__)


def asset(path: str) -> str:
    """The address of a file under `static/`, with its content hash."""
    return url_for("console.static_file", path=path, v=assets[path].version)


def asset_integrity(path: str) -> str:
    return assets[path].integrity


async def page(template: str, *, status: int = 200, **context: Any) -> Response:
    return Response(await render_template(template, **context), status=status, content_type="text/html; charset=utf-8")


async def fragment(template: str, block: str, **context: Any) -> Response:
    """One named block of a page's template, for htmx."""
    await current_app.update_template_context(context)
    source = current_app.jinja_env.get_template(template)
    parts = [part async for part in source.blocks[block](source.new_context(context))]  # type: ignore[attr-defined]
    return Response(Markup("").join(map(Markup, parts)), content_type="text/html; charset=utf-8")


def is_asking_for(block: str) -> bool:
    """True when htmx will swap just the element with this id."""
    is_restoring = request.headers.get("HX-History-Restore-Request") == "true"
    return request.headers.get("HX-Target") == block and not is_restoring


def secure(response: Response) -> Response:
    """Headers of every console answer. Pages are never stored; files with their hash in the URL are cached."""
    response.headers.update(_HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("Vary", "Cookie, HX-Request, HX-Target")
    return response


def section() -> str:
    """`keys`, `models` …: the part of the address after the worker; empty elsewhere."""
    name = (request.blueprints or [""])[0].rpartition(".")[2]
    return name if any(name == known[0] for known in SECTIONS) else ""


def switcher_rows() -> list[dict[str, Any]]:
    """Every worker with what is known of it and a link to the section that is open now."""
    registry = services().registry
    endpoints = {name: endpoint for name, _, _, endpoint in SECTIONS}
    endpoint = endpoints.get(section(), "console.keys.list_keys")
    return [
        {
            "worker": worker,
            "health": registry.health(worker),
            "is_signed_in": g.session.credential(worker) is not None,
            "href": url_for(endpoint, worker_id=worker.worker_id),
        }
        for worker in registry.workers
    ]


def by_environment(workers: list[Any] | tuple[Any, ...], key: Any = None) -> list[tuple[str, list[Any]]]:
    """Grouped by environment, production first, then staging, in registry order within a group."""
    groups: dict[str, list[Any]] = {}
    order = {"production": 0, "staging": 1, "development": 2}
    worker_of = key or (lambda item: item)
    for item in sorted(workers, key=lambda item: order[worker_of(item).environment_kind]):
        groups.setdefault(worker_of(item).environment_title, []).append(item)
    return list(groups.items())


def identity() -> str:
    """The name in the account menu: the one used at this worker, else any."""
    worker: Worker | None = g.get("worker")
    credential = g.session.credential(worker) if worker else None
    candidates = [credential] if credential else list(g.session.credentials.values())
    return candidates[0].username if candidates else ""


def theme() -> str:
    chosen = request.cookies.get(THEME_COOKIE, "system")
    return chosen if chosen in THEMES else "system"


def _here() -> str:
    """The address to come back to: this page, or after a change the list that it belongs to."""
    if request.method == "GET":
        return request.full_path.rstrip("?")
    endpoints = {name: endpoint for name, _, _, endpoint in SECTIONS}
    if "worker" in g and section():
        return url_for(endpoints[section()], worker_id=g.worker.worker_id)
    return url_for("console.workers.overview")


def template_context() -> dict[str, Any]:
    """What every console template may use."""
    if "session" not in g:
        return {}
    return {
        "version": VERSION,
        "registry": services().registry,
        "worker": g.get("worker"),
        "section": section(),
        "sections": SECTIONS,
        "theme": theme(),
        "here": _here(),
        "is_signed_in": g.session.is_signed_in,
        "identity": identity,
        "switcher": lambda: by_environment(switcher_rows(), key=lambda row: row["worker"]),
    }


TEMPLATE_GLOBALS: dict[str, Callable[..., Any]] = {
    "asset": asset,
    "asset_integrity": asset_integrity,
    "csrf_token": csrf_token,
    "by_environment": by_environment,
}


def safe_next(address: str | None) -> str:
    """Only an address inside the console; anything else becomes the overview."""
    parts = urlsplit(address or "")
    is_inside = not parts.scheme and not parts.netloc and parts.path.startswith("/ui/")
    path = unquote(parts.path)
    is_plain = "\\" not in path and ".." not in path and path.isprintable() and (address or "").isprintable()
    if address and is_inside and is_plain and not parts.path.startswith("/ui/log"):
        return address
    return url_for("console.workers.overview")


async def problem(*, status: int, title: str, text: str, **context: Any) -> Response:
    """A page that says what happened, what still works and what to do."""
    response = await page("pages/problem.html", status=status, title=title, text=text, **context)
    return _whole_page(response)


def _whole_page(response: Response) -> Response:
    """An htmx request for one block gets the whole content area instead: the block's page is gone."""
    if request.headers.get("HX-Request"):
        response.headers.update({"HX-Retarget": "#main", "HX-Reselect": "#main", "HX-Reswap": "outerHTML"})
    return response


async def show_unreachable(error: WorkerUnreachable) -> Response:
    registry = services().registry
    others = [worker for worker in registry.workers if worker.worker_id != error.worker.worker_id]
    silent = [worker for worker in others if registry.health(worker).state == "unreachable"]
    response = await page(
        "pages/unreachable.html",
        health=registry.health(error.worker),
        reason=error.message,
        others=others,
        silent=silent,
        was_change=request.method == "POST",
    )
    return _whole_page(response)


async def show_session_expired(error: SessionExpired) -> Response:
    await g.session.forget(error.worker)
    return redirect_browser(sign_in_address(error.worker))


async def show_refused(error: WorkerRefused) -> Response:
    """The worker refused a whole page. Refusals of a form are shown at the form by its view."""
    is_role = error.status in (401, 403)
    name = error.worker.name
    title = f"{name} does not allow this" if is_role else f"{name} could not do this"
    if error.status == 404:
        title = f"{name} does not have this"
    return await problem(
        status=error.status if error.status in (401, 403, 404) else 502,
        title=title,
        text=error.message,
        answered=error.status,
        request_id=error.request_id,
        icon_name="lock" if is_role else "cloud-alert",
        retry=request.full_path.rstrip("?") if request.method == "GET" and not is_role else None,
    )


async def show_database_unavailable(error: ServiceUnavailable) -> Response:
    """This instance's own database cannot be reached, and with it the console's sessions."""
    g.setdefault("session", ConsoleSession())
    text = "Nobody can be recognised until it is back. Workers and their LLM traffic are not affected."
    response = await problem(status=503, title="The console's own database is away", text=text, retry=_here())
    response.headers.update(error.headers)
    return response


async def show_http_error(error: HTTPException) -> Response:
    g.setdefault("session", ConsoleSession())
    text = "The console does not accept this request. Nothing was changed."
    return await problem(status=error.code or 500, title=error.name, text=text)


async def show_unexpected(error: Exception) -> Response:
    """A worker's answer of the wrong shape, or a fault of the console: the log tells which.

    502 on the pages of a worker, whose answers are all that varies there.
    """
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error("console page failed", error=type(error).__name__, path=request.path, frames=frames[-8:])
    g.setdefault("session", ConsoleSession())
    text = "An answer could not be read; the log of the console says more. Other workers and LLM traffic go on."
    if request.method == "POST":
        text += " The change that you sent may or may not have been made. Look before you send it again."
    status = 502 if "worker" in g else 500
    return await problem(status=status, title="This page could not be shown", text=text)


async def show_not_found(error: NotFound) -> Response:
    if error.description == "worker":
        text = "No worker with this id is in the registry of this console. It may have been renamed or removed."
        return await problem(status=404, title="Unknown worker", text=text, icon_name="unplug")
    return await problem(status=404, title="No such page", text="The console has no page at this address.")
