"""What a batch of events adds to the running totals and to the days, and the tables that keep them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from .bulk import BulkWriter, Column, Row, Statement, Table
from .events import SpendEvent, SpendWindow
from .scopes import team_and_user

_LOG_COLUMNS = (
    Column("request_id", "text", "key"),
    Column("call_type", "text"),
    Column("api_key", "text"),
    Column("spend", "numeric"),
    Column("total_tokens", "bigint"),
    Column("prompt_tokens", "bigint"),
    Column("completion_tokens", "bigint"),
    Column("start_time", "timestamptz"),
    Column("end_time", "timestamptz"),
    Column("completion_start_time", "timestamptz"),
    Column("request_duration_ms", "int"),
    Column("model", "text"),
    Column("model_id", "text"),
    Column("model_group", "text"),
    Column("custom_llm_provider", "text"),
    Column("api_base", "text"),
    Column("user", "text"),
    Column("team_id", "text"),
    Column("organization_id", "text"),
    Column("end_user", "text"),
    Column("session_id", "text"),
    Column("litellm_call_id", "text"),
    Column("requester_ip_address", "text"),
    Column("cache_hit", "text"),
    Column("cache_key", "text"),
    Column("request_tags", "jsonb"),
    Column("metadata", "jsonb"),
    Column("status", "text"),
)
LOG = Table("spend_log", _LOG_COLUMNS)

_SPEND, _TOTAL_SPEND = Column("spend", "numeric", "money"), Column("total_spend", "numeric", "money")
_KEY = Table(
    "virtual_key",
    (Column("token", "text", "key"), _SPEND, _TOTAL_SPEND, Column("last_active", "timestamptz", "latest")),
)
_MEMBER = Table(
    "team_membership", (Column("team_id", "text", "key"), Column("user_id", "text", "key"), _SPEND, _TOTAL_SPEND)
)
_ORGANIZATION_MEMBER = Table(
    "organization_membership", (Column("organization_id", "text", "key"), Column("user_id", "text", "key"), _SPEND)
)
_END_USER = Table(
    "end_user",
    (
        Column("user_id", "text", "key"),
        _SPEND,
        Column("models", "jsonb"),
        Column("created_at", "timestamptz"),
        Column("updated_at", "timestamptz"),
    ),
)
# Scope -> the table of its rows, which are only ever updated here. Rows that many calls share come last, so that they
# are locked for a short time.
_ENTITIES = {
    "user": Table("user_account", (Column("user_id", "text", "key"), _SPEND)),
    "tag": Table("tag", (Column("tag_name", "text", "key"), _SPEND)),
    "access_group": Table("model_access_group_budget", (Column("access_group", "text", "key"), _SPEND)),
    "team": Table("team", (Column("team_id", "text", "key"), _SPEND)),
    "organization": Table("organization", (Column("organization_id", "text", "key"), _SPEND)),
}
_WINDOW = Table(
    "budget_window",
    (
        Column("kind", "text", "key"),
        Column("id", "text", "key"),
        Column("model", "text", "key"),
        Column("period", "text", "key"),
        Column("starts_at", "timestamptz"),
        _SPEND,
    ),
    period_start="starts_at",
)
_WHAT = ("model", "model_group", "custom_llm_provider", "endpoint")
_COUNTS = (
    "prompt_tokens",
    "completion_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "api_requests",
    "successful_requests",
    "failed_requests",
    "total_response_time_ms",
)


def _daily(name: str, *who: str) -> Table:
    keys = tuple(Column(key, "text", "key") for key in (*who, *_WHAT))
    return Table(name, (*keys, _SPEND, *(Column(count, "bigint", "count") for count in _COUNTS)))


_DAY = _daily("daily_spend", "date", "api_key", "user_id", "team_id")
_ENTITY_DAY = _daily("daily_entity_spend", "kind", "entity_id", "date", "api_key")


class _Day(msgspec.Struct, gc=False):
    """What the calls of one day and one combination of names add up to, in the order of the columns."""

    spend: Decimal = Decimal(0)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    calls: int = 0
    good_calls: int = 0
    bad_calls: int = 0
    duration_ms: int = 0

    def add(self, event: SpendEvent, duration_ms: int) -> None:
        self.spend += event.cost
        self.prompt_tokens += event.prompt_tokens
        self.completion_tokens += event.completion_tokens
        self.cache_read_tokens += event.cache_read_tokens
        self.cache_write_tokens += event.cache_write_tokens
        self.calls += 1
        if event.status == "success":
            self.good_calls += 1
        else:
            self.bad_calls += 1
        self.duration_ms += duration_ms


_Sums = dict[tuple[str, ...], _Day]
# In the order in which their rows are visited.
_ENTITY_KINDS = ("tag", "end_user", "organization", "team", "all")


class Totals:
    """Sums over events, ready to be added to the database. Each event is added once."""

    def __init__(self, *, tracks_end_users: bool = True) -> None:
        """`tracks_end_users`: whether end users get rows and days of their own."""
        self._tracks_end_users = tracks_end_users
        self._scopes: dict[str, dict[str, Decimal]] = {}
        self._last_active: dict[str, datetime] = {}
        self._organization_members: dict[tuple[str, str], Decimal] = {}
        self._windows: dict[tuple[str, str, str, str], tuple[datetime, Decimal]] = {}
        self._days: _Sums = {}
        self._entity_days: dict[str, _Sums] = {kind: {} for kind in _ENTITY_KINDS}

    def add(self, events: Iterable[SpendEvent]) -> None:
        """Take these events in, about 10 µs each."""
        for event in events:
            self._add(event)

    def _add(self, event: SpendEvent) -> None:
        cost, key = event.cost, event.key_hash
        day = event.start_time.astimezone(UTC).date().isoformat()
        what = (event.model, event.model_group, event.provider, event.endpoint)
        duration_ms = event.duration_ms
        _count(self._days, (day, key, event.user_id or "", event.team_id or "", *what), event, duration_ms)
        _count(self._entity_days["all"], ("all", "", day, "", *what), event, duration_ms)
        seen: set[str] = set()
        for kind, id in event.scopes():
            if kind == "end_user" and not self._tracks_end_users:
                continue
            sums = self._scopes.get(kind)
            if sums is None:
                sums = self._scopes[kind] = {}
            sums[id] = sums[id] + cost if id in sums else cost
            if kind in self._entity_days:
                self._add_to_entity(kind, id, (day, *what), event, duration_ms, is_first=kind not in seen)
                seen.add(kind)
        if event.organization_id and event.user_id and not event.is_team_priced:
            member = (event.organization_id, event.user_id)
            self._organization_members[member] = self._organization_members.get(member, 0) + cost
        last = self._last_active.get(key)
        if last is None or last < event.end_time:
            self._last_active[key] = event.end_time
        for window in event.windows:
            self._add_to_window(window, cost)

    def _add_to_entity(
        self, kind: str, id: str, what: tuple[str, ...], event: SpendEvent, duration_ms: int, *, is_first: bool
    ) -> None:
        """The days of one entity, with its keys and without, and once per call those of all entities of its kind.

        Reports over many keys read the sums without them. A team's days with keys are in the days of the keys.
        """
        day, *rest = what
        sums = self._entity_days[kind]
        _count(sums, (kind, id, day, "", *rest), event, duration_ms)
        if is_first:
            _count(sums, (kind, "", day, "", *rest), event, duration_ms)
        if kind != "team":
            _count(sums, (kind, id, day, event.key_hash, *rest), event, duration_ms)

    def _add_to_window(self, window: SpendWindow, cost: Decimal) -> None:
        """Of several periods of one ceiling the newest stays, as it would in the table."""
        name, starts_at = (window.kind, window.id, window.model, window.period), window.starts_at.astimezone(UTC)
        started, spend = self._windows.get(name, (starts_at, Decimal(0)))
        if starts_at == started:
            self._windows[name] = (started, spend + cost)
        elif starts_at > started:
            self._windows[name] = (starts_at, cost)

    async def statements(self, writer: BulkWriter) -> list[Statement]:
        """What adds them to the database, table by table in one order; for the transaction that inserts the rows."""
        now, of = datetime.now(UTC), self._of
        keys = ((id, spend, spend, self._last_active[id]) for id, spend in of("key"))
        members = ((*team_and_user(id), spend, spend) for id, spend in of("member"))
        of_organizations = ((*names, spend) for names, spend in self._organization_members.items())
        end_users: Iterator[Row] = ((id, spend, [], now, now) for id, spend in of("end_user"))
        windows = ((*name, *since) for name, since in self._windows.items())
        return [
            await writer.statement("add", _KEY, keys),
            await writer.statement("add", _MEMBER, members),
            await writer.statement("add", _ORGANIZATION_MEMBER, of_organizations),
            await writer.statement("upsert", _END_USER, end_users),
            *[await writer.statement("add", table, of(kind)) for kind, table in _ENTITIES.items()],
            await writer.statement("upsert", _WINDOW, windows),
            await writer.statement("upsert", _DAY, _rows(self._days)),
            # Those of one kind at a time: what all calls share is locked last.
            *[await writer.statement("upsert", _ENTITY_DAY, _rows(sums)) for sums in self._entity_days.values()],
        ]

    def _of(self, kind: str) -> Iterable[tuple[str, Decimal]]:
        return self._scopes.get(kind, {}).items()


def _count(sums: _Sums, name: tuple[str, ...], event: SpendEvent, duration_ms: int) -> None:
    day = sums.get(name)
    if day is None:
        day = sums[name] = _Day()
    day.add(event, duration_ms)


def _rows(sums: _Sums) -> Iterator[Row]:
    return ((*name, *msgspec.structs.astuple(day)) for name, day in sums.items())


def log_row(event: SpendEvent) -> Row:
    """The row of one call in `LOG`."""
    return (
        event.request_id,
        event.call_type,
        event.key_hash,
        event.cost,
        event.prompt_tokens + event.completion_tokens,
        event.prompt_tokens,
        event.completion_tokens,
        event.start_time,
        event.end_time,
        event.first_chunk_time,
        event.duration_ms,
        event.model,
        event.model_id,
        event.model_group,
        event.provider,
        event.api_base,
        event.user_id or "",
        event.team_id,
        event.organization_id,
        event.end_user,
        event.session_id,
        event.call_id,
        event.ip_address,
        "True" if event.is_cache_hit else "False",
        event.cache_key,
        event.tags,
        event.metadata,
        event.status,
    )
