"""Everything that one key may do and is bounded by, read from the database at once: the snapshot of a caller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from tortoise.expressions import Q

from ..durations import BudgetCalendar
from ..models import (
    AccessGroup,
    Budget,
    DeprecatedKey,
    Organization,
    OrganizationMembership,
    Team,
    TeamMembership,
    User,
    VirtualKey,
)
from ..models.budget_period import start_new_period
from ..models.virtual_key import SESSION_TEAM_ID
from ..security.callback_credentials import stored_entries
from ..spend.scopes import BudgetScope, RateLimit, member_id
from ..spend.windows import WindowCeiling, budget_windows, model_windows, window_scopes
from .model_access import NO_MODEL
from .principal import Principal
from .roles import Role


@dataclass(slots=True)
class _Rows:
    """The rows that a key leads to."""

    key: VirtualKey
    expires_at: datetime | None
    is_session: bool
    user: User | None = None
    team: Team | None = None
    member: TeamMembership | None = None
    organization: Organization | None = None
    administered: tuple[str, ...] = ()
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    group_models: Mapping[str, list[str]] = field(default_factory=dict)

    def budget(self, budget_id: str | None) -> Budget | None:
        return self.budgets.get(budget_id) if budget_id else None

    @property
    def member_budget_id(self) -> str | None:
        """A member's own budget, else the one that the team gives each of its members."""
        if self.member is not None and self.member.budget_id:
            return str(self.member.budget_id)
        shared = self.team.metadata.get("team_member_budget_id") if self.team is not None and self.member else None
        return shared if isinstance(shared, str) else None


async def load_principal(
    token: str, calendar: BudgetCalendar, *, bounds_team_keys_by_user: bool = False
) -> tuple[Principal | None, datetime | None]:
    """The caller behind a key's hash, and when the first of its periods ends. (None, None): there is no such key."""
    rows = await _read(token)
    if rows is None:
        return None, None
    await _start_new_periods(rows, calendar)
    ceilings = list(_windows_of(rows, bounds_team_keys_by_user))
    windows = await window_scopes(ceilings, calendar, datetime.now(UTC))
    scopes = (*_scopes(rows, bounds_team_keys_by_user), *windows)
    # An end that is over and stays so is that of a holder whose budget has no period any more.
    now = datetime.now(UTC)
    ends = [scope.resets_at for scope in scopes if scope.resets_at is not None and scope.resets_at > now]
    return _principal(rows, scopes), min(ends, default=None)


async def _read(token: str) -> _Rows | None:
    key, expires_at = await _key_of(token)
    if key is None:
        return None
    is_session = key.team_id == SESSION_TEAM_ID
    rows = _Rows(key, expires_at, is_session)
    if key.user_id:
        rows.user = await User.get_or_none(user_id=key.user_id)
        memberships = OrganizationMembership.filter(user_id=key.user_id, user_role=Role.ORG_ADMIN.value)
        rows.administered = tuple([row.organization_id async for row in memberships])
    if key.team_id and not is_session:
        rows.team = await Team.get_or_none(team_id=key.team_id)
        if rows.team is not None and key.user_id:
            rows.member = await TeamMembership.get_or_none(team_id=key.team_id, user_id=key.user_id)
    organization_id = key.organization_id or (rows.team.organization_id if rows.team is not None else None)
    if organization_id:
        rows.organization = await Organization.get_or_none(organization_id=organization_id)
    await _read_shared(rows)
    return rows


async def _key_of(token: str) -> tuple[VirtualKey | None, datetime | None]:
    """The key of a hash, and when it stops: a secret that was regenerated goes on for its grace period."""
    key = await VirtualKey.get_or_none(token=token)
    if key is not None:
        return key, key.expires
    old = await DeprecatedKey.get_or_none(token=token, revoke_at__gt=datetime.now(UTC))
    key = await VirtualKey.get_or_none(token=old.active_token) if old is not None else None
    if key is None or old is None:
        return None, None
    return key, old.revoke_at if key.expires is None else min(key.expires, old.revoke_at)


async def _read_shared(rows: _Rows) -> None:
    """Budgets and access groups, each in one query."""
    wanted = {rows.key.budget_id, rows.member_budget_id}
    if rows.organization is not None:
        wanted.add(rows.organization.budget_id)
    ids = [budget_id for budget_id in wanted if budget_id]
    if ids:
        rows.budgets = {budget.budget_id: budget async for budget in Budget.filter(budget_id__in=ids)}
    holders = [row for row in (rows.key, rows.team) if row is not None]
    group_ids = [group for row in holders for group in row.access_group_ids]
    names = [name for row in (*holders, rows.user) if row is not None for name in row.models]
    if group_ids or names:
        groups = AccessGroup.filter(Q(access_group_id__in=group_ids) | Q(access_group_name__in=names))
        models_of: dict[str, list[str]] = {}
        async for group in groups:
            models_of[group.access_group_id] = models_of[group.access_group_name] = list(group.access_model_names)
        rows.group_models = models_of


async def _start_new_periods(rows: _Rows, calendar: BudgetCalendar) -> None:
    await start_new_period(rows.key, rows.budget(rows.key.budget_id), calendar=calendar)
    for row in (rows.user, rows.team):
        if row is not None:
            await start_new_period(row, calendar=calendar)
    if rows.member is not None:
        await start_new_period(rows.member, rows.budget(rows.member_budget_id), calendar=calendar)
    if rows.organization is not None:
        await start_new_period(rows.organization, rows.budget(rows.organization.budget_id), calendar=calendar)


# ---- budgets, in the order in which clients are told of the first that refuses ---------------------------------------


def _scopes(rows: _Rows, bounds_team_keys_by_user: bool) -> Iterator[BudgetScope]:
    key, team, user, member = rows.key, rows.team, rows.user, rows.member
    if member is not None:
        id, label = member_id(member.team_id, member.user_id), f"TeamMember={member.user_id}:{member.team_id}"
        yield _shared_scope("member", id, label, member, rows.budget(rows.member_budget_id))
    yield _key_scope(key, rows.budget(key.budget_id))
    if team is not None:
        yield _own_scope("team", team.team_id, f"Team={team.team_id}", team)
    if rows.organization is not None:
        yield _organization_scope(rows.organization, rows.budget(rows.organization.budget_id))
    if user is not None:
        # A user's own budget does not bound a team's key, yet what such a key spends counts for the user.
        scope = _own_scope("user", user.user_id, f"User={user.user_id}", user)
        bounds = team is None or bounds_team_keys_by_user
        yield scope if bounds else replace(scope, max_budget=None, soft_budget=None)


def _own_scope(kind: str, id: str, label: str, row: Team | User) -> BudgetScope:
    """A holder with a ceiling of its own."""
    return BudgetScope(
        kind, id, label, row.max_budget, row.spend, row.soft_budget, row.spend_epoch, row.budget_reset_at
    )


def _shared_scope(kind: str, id: str, label: str, row: TeamMembership, budget: Budget | None) -> BudgetScope:
    """A holder whose ceiling is a row of `budget`."""
    soft = budget.soft_budget if budget is not None else None
    return BudgetScope(kind, id, label, _ceiling(None, budget), row.spend, soft, row.spend_epoch, row.budget_reset_at)


def _key_scope(key: VirtualKey, budget: Budget | None) -> BudgetScope:
    soft = key.soft_budget if key.soft_budget is not None or budget is None else budget.soft_budget
    ceiling = _with_temporary(_ceiling(key.max_budget, budget), key.metadata)
    return BudgetScope(
        "key", key.token, _key_label(key), ceiling, key.spend, soft, key.spend_epoch, key.budget_reset_at
    )


def _organization_scope(organization: Organization, budget: Budget | None) -> BudgetScope:
    """Its budget is a row that is its own, with the period in it."""
    id = organization.organization_id
    return BudgetScope(
        "organization",
        id,
        f"Organization={id}",
        _ceiling(None, budget),
        organization.spend,
        budget.soft_budget if budget is not None else None,
        organization.spend_epoch,
        budget.budget_reset_at if budget is not None else None,
    )


def _key_label(key: VirtualKey) -> str:
    return f"Key={key.key_alias} ({key.key_name})" if key.key_alias else f"Key={key.key_name}"


def _ceiling(own: Decimal | None, shared: Budget | None) -> Decimal | None:
    """An own ceiling, else that of the budget it was given, with its temporary increase."""
    if own is not None or shared is None or shared.max_budget is None:
        return own
    ceiling: Decimal = shared.max_budget
    increase, expiry = shared.temp_budget_increase, shared.temp_budget_expiry
    if increase is not None and expiry is not None and expiry > datetime.now(UTC):
        ceiling += increase
    return ceiling


def _with_temporary(ceiling: Decimal | None, metadata: Mapping[str, Any]) -> Decimal | None:
    """A key's temporary increase lives in its metadata."""
    increase, expiry = metadata.get("temp_budget_increase"), metadata.get("temp_budget_expiry")
    if ceiling is None or increase is None or not isinstance(expiry, str):
        return ceiling
    try:
        is_over = datetime.fromisoformat(expiry) <= datetime.now(UTC)
        more = Decimal(str(increase))
        return ceiling + more if more.is_finite() and not is_over else ceiling
    except (ValueError, TypeError, InvalidOperation):
        return ceiling


def _windows_of(rows: _Rows, bounds_team_keys_by_user: bool) -> Iterator[WindowCeiling]:
    """Ceilings that stand beside a holder's own budget: several windows, and budgets of single models."""
    key, team, user = rows.key, rows.team, rows.user
    if team is not None:
        yield from budget_windows("team", team.team_id, f"Team={team.team_id}", team.budget_limits)
    yield from budget_windows("key", key.token, "Key", key.budget_limits)
    yield from model_windows("key", key.token, _key_label(key), key.model_max_budget)
    budget = rows.budget(key.budget_id)
    if budget is not None and not key.model_max_budget:
        yield from model_windows("key", key.token, _key_label(key), budget.model_max_budget)
    if team is not None:
        yield from model_windows("team", team.team_id, f"Team={team.team_id}", team.model_max_budget)
    if user is not None and (team is None or bounds_team_keys_by_user):
        yield from model_windows("user", user.user_id, f"User={user.user_id}", user.model_max_budget)


# ---- limits --------------------------------------------------------------------------------------------------------


def _limits(rows: _Rows) -> Iterator[RateLimit]:
    """The limits that say something, in the order of refusal. Like its budget, a user's own spare a team's keys."""
    return (limit for limit in _all_limits(rows) if limit.says_something)


def _all_limits(rows: _Rows) -> Iterator[RateLimit]:
    key, team, user, member, organization = rows.key, rows.team, rows.user, rows.member, rows.organization
    shared = rows.budget(key.budget_id)
    yield RateLimit("api_key", key.token, key.key_name or "", *_three(key, shared))
    if user is not None and team is None:
        yield RateLimit("user", user.user_id, user.user_id, *_three(user))
    if team is not None:
        yield RateLimit("team", team.team_id, team.team_id, *_three(team))
    if member is not None:
        budget = rows.budget(rows.member_budget_id)
        if budget is not None:
            id = member_id(member.team_id, member.user_id)
            yield RateLimit("team_member", id, f"{member.user_id}:{member.team_id}", *_three(budget))
    yield from _of_models("model_per_key", key.token, key.key_name or "", key.metadata)
    if team is not None:
        yield from _of_models("model_per_team", team.team_id, team.team_id, team.metadata)
    if organization is not None:
        id = organization.organization_id
        budget = rows.budget(organization.budget_id)
        if budget is not None:
            yield RateLimit("organization", id, id, *_three(budget))
        yield from _of_models("model_per_organization", id, id, organization.metadata)


def _three(row: Any, shared: Budget | None = None) -> tuple[int | None, int | None, int | None]:
    """rpm, tpm and parallel calls: the row's own, else those of the budget it was given."""
    names = ("rpm_limit", "tpm_limit", "max_parallel_requests")
    own = [getattr(row, name) for name in names]
    rpm, tpm, parallel = (
        getattr(shared, name) if value is None and shared is not None else value
        for name, value in zip(names, own, strict=True)
    )
    return rpm, tpm, parallel


def _of_models(descriptor: str, id: str, label: str, metadata: Mapping[str, Any]) -> Iterator[RateLimit]:
    rpm, tpm = _numbers(metadata.get("model_rpm_limit")), _numbers(metadata.get("model_tpm_limit"))
    for model in sorted({*rpm, *tpm}):
        yield RateLimit(descriptor, id, f"{label}:{model}", rpm.get(model), tpm.get(model), None, model)


def _numbers(value: Any) -> dict[str, int]:
    """The entries of a mapping that are limits; whatever else was stored is no limit."""
    if not isinstance(value, Mapping):
        return {}
    return {
        str(name): int(number)
        for name, number in value.items()
        if isinstance(number, int | float) and not isinstance(number, bool)
    }


# ---- the caller ----------------------------------------------------------------------------------------------------


def _principal(rows: _Rows, scopes: tuple[BudgetScope, ...]) -> Principal:
    key, user, team, organization = rows.key, rows.user, rows.team, rows.organization
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
        organization_id=organization.organization_id if organization is not None else None,
        models=_grants(rows, key),
        team_models=_grants(rows, team) if team is not None else (),
        member_models=_member_models(rows),
        user_models=_grants(rows, user) if user is not None and team is None else (),
        organization_models=tuple(organization.models) if organization is not None else (),
        aliases=_aliases(rows),
        allowed_routes=tuple(key.allowed_routes),
        expires_at=rows.expires_at,
        is_blocked=key.blocked,
        is_team_blocked=team.blocked if team is not None else False,
        is_session=rows.is_session,
        max_budget=next((scope.max_budget for scope in scopes if scope.kind == "key" and not scope.is_window), None),
        scopes=scopes,
        limits=tuple(_limits(rows)),
        organizations=rows.administered,
        pass_through_routes=tuple(
            _texts(row.metadata.get("allowed_passthrough_routes")) for row in (key, team) if row is not None
        ),
        denied_pass_through_routes=_texts(key.metadata.get("denied_passthrough_routes")),
        tags=_texts(key.metadata.get("tags")),
        tag_limits=_numbers(key.metadata.get("tag_rpm_limit")),
        budget_fallbacks={
            model: tuple(map(str, others)) for model, others in key.budget_fallbacks.items() if isinstance(others, list)
        },
        end_user_budget_id=_text(key.metadata.get("end_user_budget_id")),
        callbacks=stored_entries(key.metadata, team.metadata if team is not None else None),
        is_redacted=key.metadata.get("turn_off_message_logging") is True,
        allowed_cache_controls=_texts(key.allowed_cache_controls),
    )


def _texts(value: Any) -> tuple[str, ...]:
    """A list in the metadata, where an owner may have written anything else."""
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _grants(rows: _Rows, holder: VirtualKey | Team | User) -> tuple[str, ...]:
    """A list of models with the access groups that are rows resolved; groups alone grant their models and no others."""
    given = list(getattr(holder, "access_group_ids", ()))
    grants = list(holder.models)
    for name in [*grants, *given]:
        grants.extend(rows.group_models.get(name, ()))
    # A group that is gone must not turn a list that named it into an empty one, which would grant everything.
    return tuple(grants) if grants or not given else (NO_MODEL,)


def _member_models(rows: _Rows) -> tuple[str, ...]:
    if rows.member is None or rows.team is None:
        return ()
    budget = rows.budget(rows.member_budget_id)
    return tuple((budget.allowed_models if budget is not None else None) or rows.team.default_team_member_models)


def _aliases(rows: _Rows) -> dict[str, str]:
    """Names that stand for other models: the team's, over which the key's own win."""
    aliases = {**(rows.team.model_aliases if rows.team is not None else {}), **(rows.key.aliases or {})}
    return {name: model for name, model in aliases.items() if isinstance(model, str)}
