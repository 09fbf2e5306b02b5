"""The long-lived objects of one app, and the way in which blueprints reach them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from quart import current_app

if TYPE_CHECKING:
    import httpx

    from .auth.key_directory import KeyDirectory
    from .auth.login_codes import LoginCodes
    from .auth.login_throttle import LoginThrottle
    from .auth.session_store import ConsoleSessionStore
    from .control_plane.registry import WorkerRegistry
    from .deployments.catalog import DeploymentCatalog
    from .llm.files.accounts import ProviderAccounts
    from .llm.files.batch_watcher import BatchWatcher
    from .llm.gateway import Gateway
    from .llm.health.background_checks import BackgroundChecks
    from .llm.health.probe import ConnectionTest
    from .llm.passthrough.relay import PassThrough
    from .observability.metrics.exporter import Metrics
    from .observability.notifications import Notifications
    from .observability.traces import Traces
    from .settings import Settings
    from .spend.budget import Budgets
    from .spend.counter_chain import CounterChain
    from .spend.ledger import SpendLedger
    from .spend.shared_scopes import SharedScopes
    from .storage.announcements import Announcer
    from .storage.cache import Cache
    from .storage.database import Database

EXTENSION = "quarterdeck"


def _nothing_runs() -> None:
    """Before the server has started there is nothing to wake."""


@dataclass(slots=True, kw_only=True)
class Services:
    """What `create_app` wires together. `route_groups` maps a blueprint's name to its group in the route table."""

    settings: Settings
    database: Database
    cache: Cache
    deployments: DeploymentCatalog
    keys: KeyDirectory
    budgets: Budgets
    counters: CounterChain
    shared_scopes: SharedScopes
    announcer: Announcer
    ledger: SpendLedger
    gateway: Gateway
    pass_through: PassThrough
    accounts: ProviderAccounts
    batch_watcher: BatchWatcher
    metrics: Metrics
    background_checks: BackgroundChecks
    notifications: Notifications
    login_codes: LoginCodes
    login_throttle: LoginThrottle
    console_throttle: LoginThrottle
    console_sessions: ConsoleSessionStore
    registry: WorkerRegistry
    self_transport: httpx.ASGITransport
    connection_tester: ConnectionTest | None = None
    route_groups: Mapping[str, str] = field(default_factory=dict)
    # Read stored settings again, soon; what other processes are told by the announcer.
    reload_soon: Callable[[], None] = _nothing_runs
    traces: Traces | None = None
    is_shutting_down: bool = False


def services() -> Services:
    """The services of the app that handles the current request."""
    return cast(Services, current_app.extensions[EXTENSION])
