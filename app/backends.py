"""The optional clients, loaded when they are configured: the only modules of ours that are imported late.

redis-py costs 22 MB and the OpenTelemetry SDK is an extra, which an instance without them need not hold.
"""

from __future__ import annotations

from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qsl, urlsplit

import structlog

from .llm.caching.answer_store import AnswerStore, MemoryAnswers
from .observability.traces import SpanExport, Traces
from .settings import Settings
from .settings.response_cache import CacheParams
from .spend.counter_chain import CounterChain
from .spend.counters import Counters, MemoryCounters
from .spend.sql_counters import SqlCounters
from .storage.announcements import Announcer, NullAnnouncer, PostgresAnnouncer
from .storage.cache import Cache, MemoryCache
from .storage.database import Database, sqlite_path

if TYPE_CHECKING:
    from .storage.redis_cache import RedisCache

log = structlog.get_logger(__name__)

_TRACES_CALLBACK = "otel"


def open_cache(redis_url: str | None) -> Cache:
    """Small shared values: in Redis when an address is given, else in this process."""
    if redis_url is None:
        return MemoryCache()
    cache: Cache = import_module("app.storage.redis_cache").RedisCache(redis_url)
    return cache


def open_answer_store(params: CacheParams) -> AnswerStore:
    """Cached answers: in Redis when it has an address, else in this process."""
    if params.redis_url is None:
        return MemoryAnswers(params.max_entries, params.max_bytes)
    store: AnswerStore = import_module("app.llm.caching.redis_answers").RedisAnswers(
        params.redis_url, params.max_connections
    )
    return store


def open_announcer(settings: Settings, database: Database) -> Announcer:
    """PostgreSQL's own, Redis for processes that share a SQLite file, else none: announcements.py says why."""
    if not database.is_sqlite:
        return PostgresAnnouncer(database.url)
    if settings.redis_url is None:
        return NullAnnouncer()
    # Several files may be served beside one Redis.
    identity = sha256(str(sqlite_path(database.url).resolve()).encode()).hexdigest()[:16]
    announcer: Announcer = import_module("app.storage.redis_announcements").RedisAnnouncer(
        settings.redis_url, f"quarterdeck:changes:{identity}"
    )
    return announcer


def open_counters(settings: Settings, database: Database, cache: Cache) -> CounterChain:
    """The counters of budgets and limits, in the order in which they take over: counter_chain.py has the table."""
    links: list[Counters] = []
    if cache.is_shared:
        client = cast("RedisCache", cache).client
        links.append(import_module("app.spend.redis_counters").RedisCounters(client, _namespace(database)))
    if not database.is_sqlite or settings.process_count > 1:
        links.append(SqlCounters(database))
    links.append(MemoryCounters())
    return CounterChain(links, is_closed_without_shared=settings.fail_closed_budget_enforcement)


def _namespace(database: Database) -> str:
    """Which database it is, however its address is spelled: processes that disagree on that count apart."""
    if database.is_sqlite:
        identity = str(sqlite_path(database.url).resolve())
    else:
        parts = urlsplit(database.url)
        query = dict(parse_qsl(parts.query))
        host = query.get("host") or parts.hostname or "localhost"
        identity = f"{host}:{query.get('port') or parts.port or 5432}{parts.path}"
    return sha256(identity.encode()).hexdigest()[:16]


def open_traces(settings: Settings) -> Traces | None:
    """Traces to the configured collector; None without one, and without the SDK."""
    callbacks = (*settings.callbacks, *settings.success_callback, *settings.failure_callback)
    if settings.otlp_endpoint is None and _TRACES_CALLBACK not in callbacks:
        return None
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        log.warning("traces disabled", reason="run pip install 'quarterdeck[otel]'")
        return None
    export: SpanExport = import_module("app.observability.otlp_export").OtlpExport(settings)
    return Traces(export)
