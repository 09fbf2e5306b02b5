"""create_app: the only wiring of an instance. Nothing below it asks which role the instance has."""

from __future__ import annotations

import asyncio
import traceback

import httpx
import structlog
from quart import Quart, Response, jsonify, request
from quart_cors import cors
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from .auth.guard import access_of_routes, guard
from .auth.key_directory import KeyDirectory
from .auth.login_codes import LoginCodes
from .auth.login_throttle import LoginThrottle
from .auth.session_store import ConsoleSessionStore
from .cache import open_cache
from .client_address import behind_proxies
from .control_plane.registry import WorkerRegistry
from .db import DATABASE_AWAY, DATABASE_REFUSED, Database
from .deployments import DeploymentCatalog
from .errors import GatewayError, PayloadTooLarge, PlainDenial, ServiceUnavailable
from .llm.gateway import Gateway
from .llm.upstream import Upstream
from .mounts import ROUTE_GROUPS, group_of_blueprints
from .request_body import PatientRequest, wait_until_sent
from .services import EXTENSION, Services
from .settings import Settings
from .spend.budget import BudgetBook
from .spend.ledger import SpendLedger

log = structlog.get_logger(__name__)

# Deployments that another process stored appear here after this long.
_CATALOG_RELOAD_SECONDS = 10.0


def create_app(settings: Settings) -> Quart:
    """An instance: worker, control plane or both halves of the classic layout, as its settings say."""
    app = Quart(__name__, static_folder=None, template_folder="../templates")
    app.config["MAX_CONTENT_LENGTH"] = int(settings.max_request_size_mb * 1024 * 1024)
    app.request_class = PatientRequest
    app.json.sort_keys = False  # type: ignore[attr-defined]
    house, upstream = _build_services(app, settings)
    app.extensions[EXTENSION] = house

    for group in ROUTE_GROUPS:
        for blueprint in group.blueprints:
            app.register_blueprint(blueprint)
    _close_groups(app, settings)
    guard(app, access_of_routes(app, house.route_groups))
    _add_error_handlers(app)
    app.after_request(_add_security_headers)
    if settings.control_plane_origin is not None:
        app = cors(
            app,
            allow_origin=[settings.control_plane_origin],
            allow_credentials=True,
            allow_headers=["Authorization", "Content-Type", "litellm-changed-by", "x-litellm-api-key"],
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            expose_headers=["Retry-After", "x-litellm-call-id", "x-quarterdeck-unknown-fields"],
            max_age=600,
        )
    if settings.trusted_proxy_ranges:
        app.asgi_app = behind_proxies(app.asgi_app, settings.trusted_proxy_ranges)  # type: ignore[method-assign, assignment]
    app.asgi_app = house.database.bind(app.asgi_app)  # type: ignore[method-assign, assignment]
    _add_lifespan(app, house, upstream)
    return app


def _build_services(app: Quart, settings: Settings) -> tuple[Services, Upstream]:
    database, cache = Database(settings), open_cache(settings.redis_url)
    budgets = BudgetBook(settings.budget_exceeded_status_code)
    ledger = SpendLedger(settings, database, budgets)
    catalog = DeploymentCatalog(settings, database)
    upstream = Upstream(settings.router_timeout or settings.request_timeout, settings.stream_timeout)
    house = Services(
        settings=settings,
        database=database,
        cache=cache,
        deployments=catalog,
        keys=KeyDirectory(settings, database, budgets),
        budgets=budgets,
        ledger=ledger,
        gateway=Gateway(settings, catalog, budgets, ledger, upstream),
        login_codes=LoginCodes(cache, database, settings.salt_key),
        login_throttle=LoginThrottle(settings, cache),
        console_throttle=LoginThrottle(settings, cache, is_console=True),
        console_sessions=ConsoleSessionStore(settings.salt_key),
        registry=WorkerRegistry.from_settings(settings),
        self_transport=httpx.ASGITransport(app=app),  # type: ignore[arg-type]
        route_groups=group_of_blueprints(),
    )
    return house, upstream


def _close_groups(app: Quart, settings: Settings) -> None:
    """Answer for the groups that this instance does not serve, before anything else looks at the request."""
    closed = {
        blueprint.name: group for group in ROUTE_GROUPS if not group.is_open(settings) for blueprint in group.blueprints
    }
    if not closed:
        return

    @app.before_request
    async def refuse_closed_group() -> None:
        group = closed.get((request.blueprint or "").partition(".")[0])
        if group is not None:
            raise group.refusal()


# ---- errors and headers --------------------------------------------------------------------------------------------


def _add_error_handlers(app: Quart) -> None:
    app.register_error_handler(GatewayError, _render)
    app.register_error_handler(HTTPException, _render_http)
    app.register_error_handler(Exception, _render_unexpected)
    for problem in DATABASE_AWAY:
        app.register_error_handler(problem, _render_database_away)


async def _render(error: GatewayError) -> Response:
    await wait_until_sent(request)
    response = jsonify(error.body())
    response.status_code = error.status
    response.headers.extend(error.headers)
    return response


async def _render_http(error: HTTPException) -> Response:
    """Unknown paths and methods, in the shape of the framework that the contract was measured on."""
    if isinstance(error, RequestEntityTooLarge):
        return await _render(PayloadTooLarge("The request body is larger than this gateway accepts"))
    denial = PlainDenial(error.name, status=error.code or 500)
    allowed = error.get_response().headers.get("Allow")
    if allowed is not None:
        denial.headers["Allow"] = allowed
    return await _render(denial)


async def _render_database_away(error: Exception) -> Response:
    if isinstance(error, OSError) and error.filename is not None:
        # A file of ours that cannot be opened, not a socket.
        return await _render_unexpected(error)
    log.warning("the database cannot be reached", reason=type(error).__name__)
    return await _render(ServiceUnavailable("The database cannot be reached; try again"))


async def _render_unexpected(error: Exception) -> Response:
    """A bug of ours. The log says where, without the values that were in play; the answer says nothing."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error("unexpected error", error=type(error).__name__, path=request.path, frames=frames[-8:])
    return await _render(GatewayError("Internal server error"))


async def _add_security_headers(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("X-Frame-Options", "DENY")
    headers.setdefault("Content-Security-Policy", "frame-ancestors 'none'")
    headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


# ---- life ----------------------------------------------------------------------------------------------------------


def _add_lifespan(app: Quart, house: Services, upstream: Upstream) -> None:
    background: list[asyncio.Task[None]] = []

    @app.before_serving
    async def start() -> None:
        await house.database.open()
        await upstream.open()
        await _read_deployments(house)
        await house.ledger.start()
        background.append(asyncio.create_task(_reload_forever(house), name="deployment reload"))

    @app.after_serving
    async def stop() -> None:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await house.ledger.stop()
        await upstream.close()
        await house.registry.aclose()
        await house.cache.close()
        await house.database.close()


async def _reload_forever(house: Services) -> None:
    while True:
        await asyncio.sleep(_CATALOG_RELOAD_SECONDS)
        try:
            await _read_deployments(house)
        except Exception as problem:  # noqa: BLE001 - a bug of ours must not end the reading of deployments for good
            log.error("deployments could not be read", reason=type(problem).__name__)


async def _read_deployments(house: Services) -> None:
    """An outage of the database is logged, not fatal: the next round reads them."""
    try:
        await house.deployments.reload()
    except (*DATABASE_AWAY, *DATABASE_REFUSED) as problem:
        log.warning("deployments could not be read", reason=type(problem).__name__)
