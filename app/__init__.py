"""create_app: the only wiring of an instance. Nothing below it asks which role the instance has."""

from __future__ import annotations

import os
from collections.abc import Mapping

import httpx
import structlog
from quart import Quart, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from .auth.guard import access_of_routes, guard
from .auth.key_directory import KeyDirectory
from .auth.login_codes import LoginCodes
from .auth.login_throttle import LoginThrottle
from .auth.opened_routes import opened_routes
from .auth.policy import Access
from .auth.session_store import ConsoleSessionStore
from .backends import open_announcer, open_answer_store, open_cache, open_counters, open_traces
from .control_plane.registry import WorkerRegistry
from .deployments.catalog import DeploymentCatalog
from .errors import GatewayError
from .lifespan import add_lifespan
from .llm.admission import Admission
from .llm.caching.response_cache import open_response_cache
from .llm.fast_path import ASGIApp, FastPath
from .llm.files.accounts import ProviderAccounts
from .llm.files.batch_billing import BatchBilling
from .llm.files.batch_watcher import BatchWatcher
from .llm.gateway import Gateway
from .llm.health.background_checks import BackgroundChecks
from .llm.health.probe import ConnectionTest, HealthProbe
from .llm.observers import Observers
from .llm.passthrough.relay import PassThrough
from .llm.passthrough.routes import serve_configured_endpoints
from .llm.routing.router import Router
from .llm.upstream.client import Upstream
from .observability.call_log import CallLog
from .observability.metrics.exporter import Metrics
from .observability.notifications import Notifications
from .openapi.document import EXTENSION as API_DOCUMENT
from .openapi.document import ApiDocument
from .route_groups import ROUTE_GROUPS, closed_groups, group_of_blueprints, same_origin_blueprints
from .services import EXTENSION, Services
from .settings import Settings
from .spend.budget import Budgets
from .spend.ledger import SpendLedger
from .spend.periodic_report import SpendReports
from .spend.shared_scopes import SharedScopes
from .storage.database import DATABASE_AWAY, Database
from .web.cross_origin import answer_origin
from .web.error_responses import SECURITY_HEADERS, error_body, to_gateway_error
from .web.forwarded import behind_proxies
from .web.request_body import AdmittedHTTPConnection, DrainingRequest, refuse_body, wait_until_sent
from .web.same_paths import with_same_paths
from .web.upgrades import refuse_websockets

log = structlog.get_logger(__name__)


def create_app(settings: Settings, base: Settings | None = None) -> Quart:
    """An instance: worker, control plane or both halves of the classic layout, as its settings say.

    `base`: the settings of file and environment alone, when `settings` holds what the API stored as well.
    """
    app = Quart(__name__, static_folder=None, template_folder="../templates")
    app.config["MAX_CONTENT_LENGTH"] = int(settings.max_request_size_mb * 1024 * 1024)
    app.request_class = DrainingRequest
    app.asgi_http_class = AdmittedHTTPConnection
    app.json.sort_keys = False  # type: ignore[attr-defined]
    services, upstream = _build_services(app, settings, base or settings)
    app.extensions[EXTENSION] = services
    accesses = _mount_routes(app, services, settings)
    app.asgi_app = _with_middleware(app, services, accesses, settings)  # type: ignore[method-assign, assignment]
    add_lifespan(app, services, upstream, base or settings)
    log.info("app built", pid=os.getpid())  # once in each process that serves
    return app


Accesses = Mapping[tuple[str, str], Access | str]


def _mount_routes(app: Quart, services: Services, settings: Settings) -> Accesses:
    """Register what there is, close what this instance does not serve, and guard the rest; the policy of each route."""
    for group in ROUTE_GROUPS:
        for blueprint in group.blueprints:
            app.register_blueprint(blueprint)
    if settings.control_plane_origin is not None:
        answer_origin(app, settings.control_plane_origin, closed_to=same_origin_blueprints())
    _close_groups(app, settings)
    accesses = access_of_routes(app, services.route_groups) | opened_routes(settings)
    guard(app, accesses)
    app.extensions[API_DOCUMENT] = ApiDocument(
        app,
        accesses,
        services.route_groups,
        closed=closed_groups(settings),
        root_path=settings.server_root_path,
        key_header=settings.key_header_name,
    )
    _add_error_handlers(app)
    app.after_request(_add_security_headers)
    app.after_request(_let_client_finish)
    if "llm" not in closed_groups(settings):
        serve_configured_endpoints(app)
    return accesses


def _with_middleware(app: Quart, services: Services, accesses: Accesses, settings: Settings) -> ASGIApp:
    """The app as servers call it, from the outside in: upgrades, the database, paths, proxies, the fast path."""
    serves_fast_path = settings.serves_fast_path and "llm" not in closed_groups(settings)
    shares_with_origins = settings.control_plane_origin is not None
    inner: ASGIApp = app.asgi_app
    inner = FastPath(app, services, accesses, shares_with_origins=shares_with_origins) if serves_fast_path else inner
    inner = behind_proxies(inner, settings.trusted_proxy_ranges) if settings.trusted_proxy_ranges else inner
    return refuse_websockets(services.database.bind(with_same_paths(inner, app.url_map)))


def _build_services(app: Quart, settings: Settings, base: Settings) -> tuple[Services, Upstream]:
    database, cache = Database(settings), open_cache(settings.redis_url)
    counters = open_counters(settings, database, cache)
    budgets = Budgets(counters, settings.budget_exceeded_status_code)
    shared = SharedScopes(settings, database)
    keys, announcer = KeyDirectory(settings, database), open_announcer(settings, database)
    keys.on_change(announcer.announce, shared.forget)
    counters.on_change(keys.on_reconnect)
    ledger, catalog = SpendLedger(settings, database), DeploymentCatalog(settings, database)
    upstream, router = Upstream(settings), Router(settings, announcer.announce)
    accounts = ProviderAccounts(catalog, Admission(budgets, shared), upstream, settings.salt_key)
    retention = base.spend_logs_retention
    billing = BatchBilling(settings, database, accounts, catalog, shared, ledger, log_retention=retention)
    answers = open_response_cache(settings, announcer.announce, open_answer_store)
    metrics = Metrics(settings)
    call_log, traces = CallLog(is_verbose=settings.lowest_log_level == "DEBUG"), open_traces(settings)
    observers = Observers(metrics, call_log, *([traces] if traces is not None else []))
    services = Services(
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
        gateway=Gateway(settings, catalog, budgets, ledger, upstream, shared, router, observers, answers),
        accounts=accounts,
        batch_watcher=BatchWatcher(accounts, billing),
        pass_through=PassThrough(settings, base, catalog, budgets, shared, ledger, upstream, observers),
        notifications=Notifications(settings, observers, budgets, SpendReports(database)),
        metrics=metrics,
        traces=traces,
        background_checks=BackgroundChecks(settings, database, catalog, HealthProbe(upstream, ledger)),
        login_codes=LoginCodes(cache, database, settings.salt_key),
        login_throttle=LoginThrottle(settings, cache),
        console_throttle=LoginThrottle(settings, cache, is_console=True),
        console_sessions=ConsoleSessionStore(settings.salt_key),
        registry=WorkerRegistry.from_settings(settings),
        self_transport=httpx.ASGITransport(app=app),  # type: ignore[arg-type]
        route_groups=group_of_blueprints(),
    )
    metrics.watch(lambda: _gauges(services), lambda: _lost_deliveries(services))
    return services, upstream


def _gauges(services: Services) -> dict[str, float]:
    """The present state of this process, as /metrics names it."""
    return {
        "litellm_in_flight_requests": services.gateway.router.load.running,
        "litellm_in_memory_spend_update_queue_size": services.ledger.waiting,
        "quarterdeck_callback_queue_size": sum(waiting for waiting, _ in services.notifications.queues.values()),
    }


def _lost_deliveries(services: Services) -> dict[str, int]:
    """How many calls each receiver of callbacks was not told of."""
    return {name: lost for name, (_, lost) in services.notifications.queues.items()}


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
    for problem in (GatewayError, HTTPException, Exception, *DATABASE_AWAY):
        app.register_error_handler(problem, _render)


async def _render(problem: Exception) -> Response:
    error = to_gateway_error(problem, request.path)
    refuse_body(request)
    response = jsonify(error_body(error, request.path))
    response.status_code = error.status
    response.headers.extend(error.headers)
    return response


async def _add_security_headers(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response


async def _let_client_finish(response: Response) -> Response:
    await wait_until_sent(request)
    return response
