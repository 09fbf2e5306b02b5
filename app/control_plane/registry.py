"""Which workers this console may talk to, and how each answered last.

A worker comes only from the configuration: no address that a browser sends is ever fetched. How it answered
(`WorkerHealth`) is held in the memory of this process; it feeds the switcher and the facts of the "does not answer"
page, and is never shown as if it were live.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Protocol
from urllib.parse import urlsplit

import httpx

OWN_ID_OF_CONTROL_PLANE = "@control-plane"
FRESH = timedelta(minutes=2)

_ENVIRONMENT_KINDS = {
    "production": "production",
    "prod": "production",
    "live": "production",
    "staging": "staging",
    "stage": "staging",
}


class UnsafeAddress(ValueError):
    """A registered URL points where no worker can live: link-local or cloud metadata addresses."""


class WorkerEntry(Protocol):
    """The shape of one `worker_registry` row, as settings hand it over."""

    @property
    def worker_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def environment(self) -> str | None: ...


class RegistrySettings(Protocol):
    """What the registry reads of `Settings`."""

    @property
    def workers(self) -> tuple[WorkerEntry, ...]: ...
    @property
    def proxy_base_url(self) -> str | None: ...
    @property
    def port(self) -> int: ...


@dataclass(frozen=True)
class Worker:
    """An instance that the console administers over HTTP. `url` has no trailing slash."""

    worker_id: str
    name: str
    url: str
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: str | None = None
    is_self: bool = False

    @property
    def environment_kind(self) -> str:
        """`production`, `staging` or `development`: the colour; the text shown stays the configured one."""
        return _ENVIRONMENT_KINDS.get((self.environment or "").strip().lower(), "development")

    @property
    def environment_title(self) -> str:
        label = (self.environment or "").strip()
        return label[:1].upper() + label[1:]

    @property
    def place(self) -> str:
        """The labels in short, as `eu-west-1`."""
        if "region" in self.labels:
            return self.labels["region"]
        return " · ".join(self.labels.values())


@dataclass
class WorkerHealth:
    """How the last requests of this process to one worker went."""

    last_answer_at: datetime | None = None
    last_status: int | None = None
    last_milliseconds: int | None = None
    version: str | None = None
    failing_since: datetime | None = None
    failures: int = 0
    last_failure_at: datetime | None = None

    def record_answer(self, status: int, milliseconds: int) -> None:
        self.last_answer_at = datetime.now(UTC)
        self.last_status, self.last_milliseconds = status, milliseconds
        self.failing_since, self.failures, self.last_failure_at = None, 0, None

    def record_failure(self) -> None:
        self.last_failure_at = datetime.now(UTC)
        self.failing_since = self.failing_since or self.last_failure_at
        self.failures += 1

    @property
    def state(self) -> str:
        """`unreachable`, `healthy`, or `unknown` when the last attempt is too old to tell."""
        last = self.last_failure_at or self.last_answer_at
        if last is None or datetime.now(UTC) - last > FRESH:
            return "unknown"
        return "unreachable" if self.last_failure_at else "healthy"


def _refuse_unsafe(entry: WorkerEntry) -> None:
    host = urlsplit(entry.url).hostname or ""
    try:
        is_unsafe = ipaddress.ip_address(host).is_link_local
    except ValueError:
        is_unsafe = host.lower().rstrip(".") in ("metadata.google.internal", "metadata")
    if is_unsafe:
        raise UnsafeAddress(f"worker_registry: {entry.worker_id}: {entry.url} is a metadata or link-local address")


class WorkerRegistry:
    """The workers in registry order; `own` is this instance itself.

    An instance without `worker_registry` has exactly one worker, itself. On a control plane `own` is not in the list:
    signing in to it opens the overview, and there is nothing on it to administer.
    """

    def __init__(
        self, workers: Iterable[Worker], *, own: Worker, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        listed = tuple(workers)
        self.own = own
        self.is_control_plane = bool(listed)
        self.workers = listed or (own,)
        self._by_id = {worker.worker_id: worker for worker in self.workers}
        self._health: dict[str, WorkerHealth] = {}
        self._transport = transport
        self._http: httpx.AsyncClient | None = None

    @classmethod
    def from_settings(
        cls, settings: RegistrySettings, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> WorkerRegistry:
        """`transport` stands in for the network, as tests need it."""
        for entry in settings.workers:
            _refuse_unsafe(entry)
        workers = [
            Worker(entry.worker_id, entry.name, entry.url.rstrip("/"), dict(entry.labels), entry.environment)
            for entry in settings.workers
        ]
        url = (settings.proxy_base_url or f"http://127.0.0.1:{settings.port}").rstrip("/")
        if workers:
            own = Worker(OWN_ID_OF_CONTROL_PLANE, "Control plane", url, is_self=True)
        else:
            own = Worker("self", "This worker", url, is_self=True)
        return cls(workers, own=own, transport=transport)

    def get(self, worker_id: str) -> Worker | None:
        return self._by_id.get(worker_id)

    def health(self, worker: Worker) -> WorkerHealth:
        return self._health.setdefault(worker.worker_id, WorkerHealth())

    @property
    def http(self) -> httpx.AsyncClient:
        """One pool for all workers: TLS verified, no redirects, no cookies stored, no proxy from the environment."""
        if self._http is None:
            self._http = httpx.AsyncClient(
                transport=self._transport,
                follow_redirects=False,
                trust_env=False,
                cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
                limits=httpx.Limits(max_connections=200, max_keepalive_connections=40, keepalive_expiry=15),
            )
        return self._http

    async def aclose(self) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None
