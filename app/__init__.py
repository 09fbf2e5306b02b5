"""create_app: the only wiring of an instance. Nothing below it asks which role the instance has."""

from __future__ import annotations

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
from .db import DATABASE_AWAY, Database
from .deployments import DeploymentCatalog
from .errors import GatewayError, PayloadTooLarge, PlainDenial, ServiceUnavailable
from .invalidation import open_announcer
from .lifespan import add_lifespan
from .llm.connection_test import ConnectionTest
from .llm.gateway import Gateway
from .llm.observation import Observers
from .llm.routing import Router
from .llm.upstream import Upstream
from .mounts import ROUTE_GROUPS, closed_groups, group_of_blueprints
from .openapi import EXTENSION as API_DOCUMENT
from .openapi import ApiDocument
from .request_body import PatientRequest, wait_until_sent
from .services import EXTENSION, Services
from .settings import Settings
from .spend.budget import BudgetBook
from .spend.counter_chain import open_counters
from .spend.ledger import SpendLedger
from .spend.shared_scopes import SharedScopes

log = structlog.get_logger(__name__)


def create_app(settings: Settings, base: Settings | None = None) -> Quart:
    """An instance: worker, control plane or both halves of the classic layout, as its settings say.

    `base`: the settings of file and environment alone, when `settings` holds what the API stored as well.
    """
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
    accesses = access_of_routes(app, house.route_groups)
    guard(app, accesses)
    app.extensions[API_DOCUMENT] = ApiDocument(
        app,
        accesses,
        house.route_groups,
        closed=closed_groups(settings),
        root_path=settings.server_root_path,
        key_header=settings.key_header_name,
    )
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
    add_lifespan(app, house, upstream, base or settings)
    return app


def _build_services(app: Quart, settings: Settings) -> tuple[Services, Upstream]:
    database, cache = Database(settings), open_cache(settings.redis_url)
    counters = open_counters(settings, database, cache)
    budgets = BudgetBook(counters, settings.budget_exceeded_status_code)
    shared = SharedScopes(settings, database)
    keys, announcer = KeyDirectory(settings, database), open_announcer(settings, database)
    keys.when_changed(announcer.announce, shared.forget)
    counters.when_changed(keys.hear_gap)
    ledger = SpendLedger(settings, database)
    catalog = DeploymentCatalog(settings, database)
    upstream = Upstream(settings)
    router = Router(settings, announcer.announce)
    house = Services(
        settings=settings,
        database=database,
        cache=cache,
        deployments=catalog,
        keys=keys,
        budgets=budgets,
        counters=counters,
        shared_scopes=shared,
        announcer=announcer,
        connection_tester=ConnectionTest(upstream, settings.environment),
        ledger=ledger,
        gateway=Gateway(settings, catalog, budgets, ledger, upstream, shared, router, Observers()),
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
