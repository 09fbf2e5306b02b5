"""create_app: the only wiring of an instance. Nothing below it asks which role the instance has."""

from __future__ import annotations

import os

import httpx
import structlog
from quart import Quart, Response, jsonify, request
from quart_cors import cors
from werkzeug.exceptions import HTTPException

from .answering import SECURITY_HEADERS, readable_error
from .auth.guard import access_of_routes, guard
from .auth.key_directory import KeyDirectory
from .auth.login_codes import LoginCodes
from .auth.login_throttle import LoginThrottle
from .auth.opened_routes import opened_routes
from .auth.session_store import ConsoleSessionStore
from .cache import open_cache
from .client_address import behind_proxies
from .control_plane.registry import WorkerRegistry
from .db import DATABASE_AWAY, Database
from .deployments import DeploymentCatalog
from .errors import GatewayError
from .invalidation import open_announcer
from .lifespan import add_lifespan
from .llm.admission import Admission
from .llm.caching.response_cache import open_response_cache
from .llm.call_log import CallLog
from .llm.connection_test import ConnectionTest
from .llm.door import Door
from .llm.gateway import Gateway
from .llm.health_rounds import HealthRounds
from .llm.metrics.exporter import Metrics
from .llm.observation import Observers
from .llm.passthrough.relay import PassThrough
from .llm.passthrough.routes import serve_configured_endpoints
from .llm.probes import Prober
from .llm.provider_objects.account import ProviderAccounts
from .llm.provider_objects.batch_bill import BatchBilling
from .llm.provider_objects.batch_meter import BatchMeter
from .llm.routing.router import Router
from .llm.traces import open_traces
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
from .spend.periodic_report import SpendReports
from .spend.shared_scopes import SharedScopes
from .watch.service import Watch

log = structlog.get_logger(__name__)


def create_app(settings: Settings, base: Settings | None = None) -> Quart:
    """An instance: worker, control plane or both halves of the classic layout, as its settings say.

    `base`: the settings of file and environment alone, when `settings` holds what the API stored as well.
    """
    app = Quart(__name__, static_folder=None, template_folder="../templates")
    app.config["MAX_CONTENT_LENGTH"] = int(settings.max_request_size_mb * 1024 * 1024)
    app.request_class = PatientRequest
    app.json.sort_keys = False  # type: ignore[attr-defined]
    house, upstream = _build_services(app, settings, base or settings)
    app.extensions[EXTENSION] = house

    for group in ROUTE_GROUPS:
        for blueprint in group.blueprints:
            app.register_blueprint(blueprint)
    _close_groups(app, settings)
    accesses = access_of_routes(app, house.route_groups) | opened_routes(settings)
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
    if "llm" not in closed_groups(settings):
        serve_configured_endpoints(app)
    if settings.answers_calls_directly and "llm" not in closed_groups(settings):
        shares = settings.control_plane_origin is not None
        door = Door(app.asgi_app, house, app.config["MAX_CONTENT_LENGTH"], shares_with_origins=shares)
        app.asgi_app = door  # type: ignore[method-assign]
    if settings.trusted_proxy_ranges:
        app.asgi_app = behind_proxies(app.asgi_app, settings.trusted_proxy_ranges)  # type: ignore[method-assign, assignment]
    app.asgi_app = house.database.bind(app.asgi_app)  # type: ignore[method-assign, assignment]
    add_lifespan(app, house, upstream, base or settings)
    log.info("app built", pid=os.getpid())  # once in each process that serves
    return app


def _build_services(app: Quart, settings: Settings, base: Settings) -> tuple[Services, Upstream]:
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
    accounts = ProviderAccounts(catalog, Admission(budgets, shared), upstream, settings.salt_key)
    kept = base.spend_logs_retention
    billing = BatchBilling(settings, database, accounts, catalog, shared, ledger, log_kept=kept)
    answers = open_response_cache(settings, announcer.announce)
    metrics = Metrics(settings)
    call_log, traces = CallLog(is_verbose=settings.lowest_log_level == "DEBUG"), open_traces(settings)
    observers = Observers(metrics, call_log, *([traces] if traces is not None else []))
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
        gateway=Gateway(settings, catalog, budgets, ledger, upstream, shared, router, observers, answers),
        accounts=accounts,
        batch_meter=BatchMeter(accounts, billing),
        pass_through=PassThrough(settings, base, catalog, budgets, shared, ledger, upstream, observers),
        watch=Watch(settings, observers, budgets, SpendReports(database)),
        metrics=metrics,
        traces=traces,
        health_rounds=HealthRounds(settings, database, catalog, Prober(upstream, ledger)),
        login_codes=LoginCodes(cache, database, settings.salt_key),
        login_throttle=LoginThrottle(settings, cache),
        console_throttle=LoginThrottle(settings, cache, is_console=True),
        console_sessions=ConsoleSessionStore(settings.salt_key),
        registry=WorkerRegistry.from_settings(settings),
        self_transport=httpx.ASGITransport(app=app),  # type: ignore[arg-type]
        route_groups=group_of_blueprints(),
    )
    metrics.watch(lambda: _gauges(house), lambda: {name: lost for name, (_, lost) in house.watch.queues.items()})
    return house, upstream


def _gauges(house: Services) -> dict[str, float]:
    """The present state of this process, as /metrics names it."""
    return {
        "litellm_in_flight_requests": house.gateway.router.load.running,
        "litellm_in_memory_spend_update_queue_size": house.ledger.waiting,
        "quarterdeck_callback_queue_size": sum(waiting for waiting, _ in house.watch.queues.values()),
    }


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
    error = readable_error(problem, request.path)
    await wait_until_sent(request)
    response = jsonify(error.body())
    response.status_code = error.status
    response.headers.extend(error.headers)
    return response


async def _add_security_headers(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response
