"""The long-lived objects of one app, and the way in which blueprints reach them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from quart import current_app

if TYPE_CHECKING:
    import httpx

    from .admin.health_checks import ConnectionTester
    from .auth.key_directory import KeyDirectory
    from .auth.login_codes import LoginCodes
    from .auth.login_throttle import LoginThrottle
    from .auth.session_store import ConsoleSessionStore
    from .cache import Cache
    from .control_plane.registry import WorkerRegistry
    from .db import Database
    from .deployments import DeploymentCatalog
    from .invalidation import Announcer
    from .llm.gateway import Gateway
    from .settings import Settings
    from .spend.budget import BudgetBook
    from .spend.counter_chain import CounterChain
    from .spend.ledger import SpendLedger
    from .spend.shared_scopes import SharedScopes

EXTENSION = "quarterdeck"


@dataclass(slots=True, kw_only=True)
class Services:
    """What `create_app` wires together. `route_groups` maps a blueprint's name to its group in the route table."""

    settings: Settings
    database: Database
    cache: Cache
    deployments: DeploymentCatalog
    keys: KeyDirectory
    budgets: BudgetBook
    counters: CounterChain
    shared_scopes: SharedScopes
    announcer: Announcer
    ledger: SpendLedger
    gateway: Gateway
    login_codes: LoginCodes
    login_throttle: LoginThrottle
    console_throttle: LoginThrottle
    console_sessions: ConsoleSessionStore
    registry: WorkerRegistry
    self_transport: httpx.ASGITransport
    connection_tester: ConnectionTester | None = None
    route_groups: Mapping[str, str] = field(default_factory=dict)


def services() -> Services:
    """The services of the app that handles the current request."""
    return cast(Services, current_app.extensions[EXTENSION])
