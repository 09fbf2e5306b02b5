"""Keys in memory: a call on a known key waits for no database.

A snapshot lives for `key_cache_ttl` seconds, and no longer than the first of its budget periods. A change drops it at
once: here by `forget`, in other processes by what `forget` announces. When the database is away, the last known state
of a key goes on working; a key that nobody has seen is then a 503, never a 401.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from ..errors import KeyNotFound, ServiceUnavailable, Unauthenticated
from ..models.user import ADMIN_USER_ID
from ..security.credentials import hash_key, same_secret
from ..settings import Settings
from ..storage.database import DATABASE_AWAY, DATABASE_REFUSED, Database
from .key_snapshot import load_principal
from .principal import Principal
from .roles import Role

log = structlog.get_logger(__name__)

# How spend logs name calls that were made with the master key (contract management.md §0.1).
MASTER_KEY_HASH = "litellm_proxy_master_key"

_MAX_SNAPSHOTS = 50_000
_UNKNOWN_SECONDS = 2.0

# How long a call waits for a database that does not answer, before the key's last known state or a 503.
_KNOWN_KEY_SECONDS = 1.0
_UNKNOWN_KEY_SECONDS = 5.0


# A caller, and when the first of its budget periods ends.
_Loaded = tuple[Principal | None, datetime | None]


@dataclass(slots=True)
class _Snapshot:
    principal: Principal | None
    fresh_until: float


class KeyDirectory:
    def __init__(self, settings: Settings, database: Database) -> None:
        self._master_key = settings.master_key
        self._ttl = settings.key_cache_ttl
        self._database = database
        self._calendar = settings.budget_calendar
        self._bounds_team_keys_by_user = settings.apply_user_budget_to_team_keys
        self._announce: Callable[[str], None] = _nobody_listens
        self._forget_shared: Callable[[], None] = _nothing_shared
        self._snapshots: OrderedDict[str, _Snapshot] = OrderedDict()
        # Key -> secrets that it had before, which lead to it until their grace period is over.
        self._old_secrets: dict[str, set[str]] = {}
        self._loading: dict[str, asyncio.Task[_Loaded]] = {}
        # What was changed at all, and what of it was about certain keys: a gap proves nothing against any of them.
        self._changes = 0
        self._forgotten = 0
        self._master = Principal(role=Role.PROXY_ADMIN, key_hash=MASTER_KEY_HASH, user_id=ADMIN_USER_ID)

    async def principal_of(self, key: str) -> Principal:
        """The caller behind a secret. Raises 401 for a key that is proven unknown, 503 when that cannot be told."""
        token = hash_key(key)
        snapshot = self._snapshots.get(token)
        if snapshot is None or snapshot.fresh_until <= time.monotonic():
            if same_secret(key, self._master_key):
                return self._master
            if not key.startswith("sk-"):
                raise Unauthenticated(
                    "Authentication Error, LiteLLM Virtual Key expected. Received=****, expected to start with 'sk-'."
                )
            snapshot = await self._refreshed(token, snapshot)
        if snapshot.principal is None:
            raise KeyNotFound(
                "Authentication Error, Invalid proxy server token passed. "
                f"Received API Key = sk-...{key[-4:]}, Key Hash (Token) ={token}. "
                "Unable to find token in the database.",
                param="key",
            )
        return snapshot.principal

    def forget(self, token: str) -> None:
        """Drop what is known of a key, so that a change to it holds from the next call on."""
        self._forget_key(token)
        self._announce(f"key:{token}")

    def forget_user(self, user_id: str) -> None:
        self._forget_where("user_id", user_id)
        self._announce(f"user:{user_id}")

    def forget_team(self, team_id: str) -> None:
        self._forget_where("team_id", team_id)
        self._announce(f"team:{team_id}")

    def forget_organization(self, organization_id: str) -> None:
        self._forget_where("organization_id", organization_id)
        self._announce(f"organization:{organization_id}")

    def forget_all(self) -> None:
        """Something that many keys share has changed: a budget, a tag, an end user, an access group."""
        self._forget_all()
        self._announce("all")

    def on_message(self, message: str) -> None:
        """Another process says what it changed."""
        kind, _, id = message.partition(":")
        if kind == "key":
            self._forget_key(id)
        elif kind in ("user", "team", "organization"):
            self._forget_where(f"{kind}_id", id)
        elif kind == "all":
            self._forget_all()

    def on_reconnect(self) -> None:
        """Changes of other processes may have been missed."""
        self._forget_all()

    def on_change(self, announce: Callable[[str], None], forget_shared: Callable[[], None]) -> None:
        """Whom to tell of changes: other processes, and what else is remembered here."""
        self._announce, self._forget_shared = announce, forget_shared

    def _forget_key(self, token: str) -> None:
        self._snapshots.pop(token, None)
        for old_secret in self._old_secrets.pop(token, ()):
            self._snapshots.pop(old_secret, None)
        self._loading.clear()
        self._changes += 1
        self._forgotten += 1

    def _forget_all(self) -> None:
        # Kept for an outage of the database, but no longer fresh.
        self._loading.clear()
        self._changes += 1
        for snapshot in self._snapshots.values():
            snapshot.fresh_until = 0.0
        self._forget_shared()

    def _forget_where(self, attribute: str, value: str) -> None:
        self._loading.clear()
        self._changes += 1
        self._forgotten += 1
        for token, snapshot in list(self._snapshots.items()):
            if snapshot.principal is not None and getattr(snapshot.principal, attribute) == value:
                del self._snapshots[token]

    async def _refreshed(self, token: str, stale: _Snapshot | None) -> _Snapshot:
        """One load per key at a time, however many calls wait for it."""
        task = self._loading.get(token)
        if task is None:
            task = self._loading[token] = asyncio.create_task(self._load(token))
            task.add_done_callback(lambda done: self._loaded(token, done))
        changes, forgotten = self._changes, self._forgotten
        try:
            async with asyncio.timeout(_UNKNOWN_KEY_SECONDS if stale is None else _KNOWN_KEY_SECONDS):
                principal, period_ends_at = await asyncio.shield(task)
        except (*DATABASE_AWAY, *DATABASE_REFUSED) as problem:
            # One that answers and says no (locked, read-only, half restored) proves no key bad either.
            if stale is None or stale.principal is None:
                raise ServiceUnavailable("The database cannot be reached, so this key cannot be checked") from problem
            log.warning("key served from last known state", reason=type(problem).__name__)
            stale.fresh_until = time.monotonic() + self._ttl
            return stale
        ttl = self._ttl if principal is not None else min(self._ttl, _UNKNOWN_SECONDS)
        if period_ends_at is not None:
            # What was spent in the old period must not bound the new one.
            ttl = max(0.0, min(ttl, (period_ends_at - datetime.now(UTC)).total_seconds()))
        snapshot = _Snapshot(principal, time.monotonic() + ttl)
        if changes != self._changes:
            # Something changed while this was read; it serves this call, and the next one looks again.
            snapshot.fresh_until = 0.0
            if forgotten != self._forgotten:
                return snapshot
        self._snapshots[token] = snapshot
        if principal is not None and principal.key_hash != token:
            self._old_secrets.setdefault(principal.key_hash, set()).add(token)
        self._snapshots.move_to_end(token)
        while len(self._snapshots) > _MAX_SNAPSHOTS:
            self._snapshots.popitem(last=False)
        return snapshot

    def _loaded(self, token: str, task: asyncio.Task[_Loaded]) -> None:
        if self._loading.get(token) is task:
            del self._loading[token]
        if not task.cancelled():
            task.exception()  # whoever asked may have gone on without it

    async def _load(self, token: str) -> _Loaded:
        with self._database.active():
            return await load_principal(token, self._calendar, bounds_team_keys_by_user=self._bounds_team_keys_by_user)


def _nobody_listens(message: str) -> None:
    """One process has nobody to tell."""


def _nothing_shared() -> None:
    """Nothing else is remembered."""
