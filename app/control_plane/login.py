"""Sign in to one worker, sign out of all, choose a theme."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from quart import Blueprint, Response, g, redirect, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from app.errors import TooManyRequests
from app.services import services

from .registry import Worker
from .rendering import THEME_COOKIE, THEMES, page, safe_next
from .session import clear_cookie, is_https, open_client, public, redirect_browser, write_cookie
from .worker_client import Credential
from .worker_errors import WorkerError, WorkerRefused, WorkerUnreachable

blueprint = Blueprint("login", __name__)


@blueprint.get("/login")
@public
async def show_login() -> Response:
    return await _login_page(chosen=request.args.get("worker"), next_page=request.args.get("next", ""))


@blueprint.post("/login")
@public
async def log_in() -> Response:
    form = await request.form
    username, password = form.get("username", "").strip(), form.get("password", "")
    chosen, next_page = form.get("worker_id", ""), form.get("next", "")
    worker = _worker(chosen)
    form_values = {"chosen": chosen, "username": username, "next_page": next_page}
    if worker is None:
        return await _login_page(status=404, problem="No worker with this id is in the registry.", **form_values)
    if not username or not password:
        return await _login_page(status=400, field_problem="Enter a username and a password.", **form_values)
    try:
        credential = await _sign_in_at(worker, username, password)
    except TooManyRequests as refusal:
        return await _too_many(worker, int(refusal.headers["Retry-After"]), form_values)
    except WorkerUnreachable as error:
        problem = (
            f"{worker.name} does not answer: {error.message}. Nothing was sent on; other workers are not affected."
        )
        return await _login_page(status=502, problem=problem, **form_values)
    except WorkerRefused as error:
        return await _refused(error, form_values)
    await g.session.remember(worker, credential)
    return write_cookie(redirect_browser(_first_page(worker, next_page)), g.session)


async def _sign_in_at(worker: Worker, username: str, password: str) -> Credential:
    """One guess of this person at a time, so that many at once are counted too. Raises TooManyRequests, WorkerError."""
    person, address = f"{worker.worker_id} {username}", request.remote_addr
    throttle = services().console_throttle
    with throttle.place(address):
        async with throttle.turn(address, person):
            await throttle.refuse_blocked(address, person)
            try:
                credential = await open_client(worker).login(username, password)
            except WorkerRefused as error:
                if error.status == 401:
                    await throttle.count_failure(address, person)
                raise
            await throttle.forget(address, person)
    return credential


def _worker(worker_id: str) -> Worker | None:
    """The worker of the form. No id means this instance itself, which on a control plane opens the overview."""
    registry = services().registry
    if worker_id in ("", registry.own.worker_id):
        return registry.own
    return registry.get(worker_id)


def _first_page(worker: Worker, next_page: str) -> str:
    if next_page:
        return safe_next(next_page)
    if services().registry.get(worker.worker_id) is None:
        return url_for("console.workers.overview")
    return url_for("console.keys.list_keys", worker_id=worker.worker_id)


async def _refused(error: WorkerRefused, form_values: dict[str, str]) -> Response:
    name = error.worker.name
    if error.status == 401:
        return await _login_page(
            status=401, field_problem=f"{name} did not accept this username and password.", **form_values
        )
    if error.status == 429:
        return await _too_many(error.worker, error.retry_after_seconds or 60, form_values)
    if error.status == 404 and not error.worker.is_self:
        return await _login_page(
            status=502, problem=f"{name} does not accept sign-ins from a console.", origin=own_origin(), **form_values
        )
    return await _login_page(status=502, problem=f"{name} answered {error.status}: {error.message}", **form_values)


async def _too_many(worker: Worker, seconds: int, form_values: dict[str, str]) -> Response:
    problem = (
        f"Too many sign-ins at {worker.name} at once. Try again in a moment."
        if seconds < 10
        else f"Too many failed sign-ins at {worker.name}. Try again in {-(-seconds // 60)} min."
    )
    response = await _login_page(status=429, problem=problem, **form_values)
    response.headers["Retry-After"] = str(seconds)
    return response


def own_origin() -> str:
    """What a worker must name in `general_settings.control_plane_url`, as `https://console.example`."""
    parts = urlsplit(services().settings.proxy_base_url or request.host_url)
    return f"{parts.scheme}://{parts.netloc}"


async def _login_page(
    *,
    status: int = 200,
    chosen: str | None = None,
    username: str = "",
    next_page: str = "",
    problem: str = "",
    field_problem: str = "",
    origin: str = "",
) -> Response:
    registry = services().registry
    if chosen is None:
        chosen = registry.workers[0].worker_id
    return await page(
        "pages/login.html",
        status=status,
        chosen=chosen,
        chosen_worker=_worker(chosen),
        username=username,
        next_page=next_page,
        problem=problem,
        field_problem=field_problem,
        origin=origin,
        signed_in_elsewhere=g.session.is_signed_in,
    )


@blueprint.post("/logout")
@public
async def log_out() -> Response:
    """Revoke the credential at every worker, as far as it answers in time; here it is gone in any case."""
    registry = services().registry
    known = {worker.worker_id: worker for worker in (*registry.workers, registry.own)}
    clients = [
        open_client(worker, credential)
        for worker in known.values()
        if (credential := g.session.credential(worker)) is not None
    ]
    await g.session.end()
    results = await asyncio.gather(*(client.logout() for client in clients), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, WorkerError):
            raise result
    return clear_cookie(redirect_browser(url_for("console.login.show_login")))


@blueprint.post("/theme")
@public
async def choose_theme() -> BaseResponse:
    form = await request.form
    chosen = form.get("theme", "system")
    response = redirect(safe_next(form.get("next")), 303)
    if chosen in THEMES:
        response.set_cookie(
            THEME_COOKIE, chosen, max_age=31536000, path="/ui", samesite="Lax", secure=is_https(), httponly=True
        )
    return response
