"""Keys in memory: a call on a known key waits for no database.

A snapshot lives for `key_cache_ttl` seconds; a change made on this instance drops it at once. When the database is
away, the last known state of a key goes on working; a key that nobody has seen is then a 503, never a 401.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

import structlog

from ..db import DATABASE_AWAY, DATABASE_REFUSED, Database
from ..errors import KeyNotFound, ServiceUnavailable, Unauthenticated
from ..models import Budget, OrganizationMembership, Team, TeamMembership, User, VirtualKey
from ..models.budget_period import start_new_period
from ..models.user import ADMIN_USER_ID
from ..models.virtual_key import SESSION_TEAM_ID
from ..settings import Settings
from ..spend.budget import BudgetBook, member_id
from .credentials import hash_key, same_secret
from .principal import BudgetScope, Principal, RateLimit
from .roles import Role

log = structlog.get_logger(__name__)

# How spend logs name calls that were made with the master key (contract management.md §0.1).
MASTER_KEY_HASH = "litellm_proxy_master_key"

_MAX_SNAPSHOTS = 50_000
_UNKNOWN_SECONDS = 2.0

# How long a call waits for a database that does not answer, before the key's last known state or a 503.
_KNOWN_KEY_SECONDS = 1.0
_UNKNOWN_KEY_SECONDS = 5.0


@dataclass(slots=True)
class _Snapshot:
    principal: Principal | None
    fresh_until: float


class KeyDirectory:
    def __init__(self, settings: Settings, database: Database, budgets: BudgetBook) -> None:
        self._master_key = settings.master_key
        self._ttl = settings.key_cache_ttl
        self._database = database
        self._budgets = budgets
        self._snapshots: OrderedDict[str, _Snapshot] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Principal | None]] = {}
        self._changes = 0
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
        self._snapshots.pop(token, None)
        self._loading.pop(token, None)
        self._changes += 1

    def forget_user(self, user_id: str) -> None:
        self._forget_where("user_id", user_id)

    def forget_team(self, team_id: str) -> None:
        self._forget_where("team_id", team_id)

    def _forget_where(self, attribute: str, value: str) -> None:
        self._loading.clear()
        self._changes += 1
        for token, snapshot in list(self._snapshots.items()):
            if snapshot.principal is not None and getattr(snapshot.principal, attribute) == value:
                del self._snapshots[token]

    async def _refreshed(self, token: str, stale: _Snapshot | None) -> _Snapshot:
        """One load per key at a time, however many calls wait for it."""
        task = self._loading.get(token)
        if task is None:
            task = self._loading[token] = asyncio.create_task(self._load(token))
            task.add_done_callback(lambda done: self._loaded(token, done))
        changes = self._changes
        try:
            async with asyncio.timeout(_UNKNOWN_KEY_SECONDS if stale is None else _KNOWN_KEY_SECONDS):
                principal = await asyncio.shield(task)
        except (*DATABASE_AWAY, *DATABASE_REFUSED) as problem:
            # One that answers and says no (locked, read-only, half restored) proves no key bad either.
            if stale is None or stale.principal is None:
                raise ServiceUnavailable("The database cannot be reached, so this key cannot be checked") from problem
            log.warning("key served from last known state", reason=type(problem).__name__)
            stale.fresh_until = time.monotonic() + self._ttl
            return stale
        ttl = self._ttl if principal is not None else min(self._ttl, _UNKNOWN_SECONDS)
        snapshot = _Snapshot(principal, time.monotonic() + ttl)
        if changes != self._changes:
            # Something changed while this was read; it serves this call, and the next one looks again.
            return snapshot
        self._snapshots[token] = snapshot
        self._snapshots.move_to_end(token)
        while len(self._snapshots) > _MAX_SNAPSHOTS:
            self._snapshots.popitem(last=False)
        return snapshot

    def _loaded(self, token: str, task: asyncio.Task[Principal | None]) -> None:
        if self._loading.get(token) is task:
            del self._loading[token]
        if not task.cancelled():
            task.exception()  # whoever asked may have gone on without it

    async def _load(self, token: str) -> Principal | None:
        with self._database.active():
            reading = self._budgets.start_reading()
            key = await VirtualKey.get_or_none(token=token)
            if key is None:
                return None
            is_session = key.team_id == SESSION_TEAM_ID
            user = await User.get_or_none(user_id=key.user_id) if key.user_id else None
            team = await Team.get_or_none(team_id=key.team_id) if key.team_id and not is_session else None
            member = None
            if team is not None and key.user_id:
                member = await TeamMembership.get_or_none(team_id=team.team_id, user_id=key.user_id)
            organizations = await _administered(user)
            for row in (key, user, team):
                if row is not None:
                    await start_new_period(row)
            scopes = await self._scopes(key, user, team, member, reading)
        return replace(_principal(key, user, team, scopes, is_session=is_session), organizations=organizations)

    async def _scopes(
        self, key: VirtualKey, user: User | None, team: Team | None, member: TeamMembership | None, reading: int
    ) -> tuple[BudgetScope, ...]:
        """Every ceiling that applies, in the contract's order of refusal, with what was spent below each so far."""
        found: list[tuple[BudgetScope, Decimal]] = []
        if member is not None:
            label = f"TeamMember={member.user_id}:{member.team_id}"
            ceiling = await _shared_budget(member.budget_id)
            found.append(
                (BudgetScope("member", member_id(member.team_id, member.user_id), label, ceiling), member.spend)
            )
        ceiling = key.max_budget if key.max_budget is not None else await _shared_budget(key.budget_id)
        label = f"Key={key.key_alias or ''} ({key.key_name})" if key.key_alias else f"Key={key.key_name}"
        found.append((BudgetScope("key", key.token, label, ceiling), key.spend))
        if team is not None:
            found.append((BudgetScope("team", team.team_id, f"Team={team.team_id}", team.max_budget), team.spend))
        if user is not None:
            # A user's own budget does not bound a team's key, yet what such a key spends counts for the user.
            ceiling = user.max_budget if team is None else None
            found.append((BudgetScope("user", user.user_id, f"User={user.user_id}", ceiling), user.spend))
        for scope, spend in found:
            self._budgets.observe(scope, spend, reading)
        return tuple(scope for scope, _ in found)


async def _administered(user: User | None) -> tuple[str, ...]:
    """The organizations that a user administers."""
    if user is None:
        return ()
    rows = OrganizationMembership.filter(user_id=user.user_id, user_role=Role.ORG_ADMIN.value)
    return tuple([row.organization_id async for row in rows])


async def _shared_budget(budget_id: str | None) -> Decimal | None:
    budget = await Budget.get_or_none(budget_id=budget_id) if budget_id else None
    return budget.max_budget if budget is not None else None


def _principal(
    key: VirtualKey, user: User | None, team: Team | None, scopes: tuple[BudgetScope, ...], *, is_session: bool
) -> Principal:
    role = Role.KEY_ONLY
    if user is not None:
        role = Role(user.user_role) if user.user_role in set(Role) else Role.INTERNAL_USER
    return Principal(
        role=role,
        key_hash=key.token,
        key_alias=key.key_alias,
        key_name=key.key_name,
        user_id=key.user_id,
        team_id=key.team_id,
        team_alias=team.team_alias if team is not None else None,
        models=tuple(key.models),
        team_models=tuple(team.models) if team is not None else (),
        user_models=tuple(user.models) if user is not None and team is None else (),
        aliases={name: model for name, model in (key.aliases or {}).items() if isinstance(model, str)},
        allowed_routes=tuple(key.allowed_routes),
        expires_at=key.expires,
        is_blocked=key.blocked,
        is_team_blocked=team.blocked if team is not None else False,
        is_session=is_session,
        max_budget=key.max_budget,
        scopes=scopes,
        limits=tuple(_limits(key, user, team)),
    )


def _limits(key: VirtualKey, user: User | None, team: Team | None) -> Iterator[RateLimit]:
    """The limits that say something, in the contract's order. Like its budget, a user's own spare a team's keys."""
    found: list[tuple[str, str, str, VirtualKey | User | Team]] = [("api_key", key.token, key.key_name or "", key)]
    if user is not None and team is None:
        found.append(("user", user.user_id, user.user_id, user))
    if team is not None:
        found.append(("team", team.team_id, team.team_id, team))
    for descriptor, id, label, row in found:
        limit = RateLimit(descriptor, id, label, row.rpm_limit, row.tpm_limit, row.max_parallel_requests)
        if (limit.rpm, limit.tpm, limit.parallel) != (None, None, None):
            yield limit
