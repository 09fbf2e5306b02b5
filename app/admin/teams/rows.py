"""Teams as the API writes them: the row, its members, their budgets, and how a row is changed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from tortoise.functions import Count
from tortoise.models import Model

from ...errors import Conflict, PlainDenial
from ...models import Budget, DeletedTeam, Team, TeamMembership, User
from ...security.callback_credentials import masked_metadata
from ...web.fields import may_exist
from ..audit.trail import TEAMS
from ..changes import change_row, transaction

Answer = dict[str, Any]

# Names of budgets that belong to one membership, and go with it.
MEMBER_BUDGET = "member-"
# Where a team's metadata keep the budget of members that have none of their own.
DEFAULT_BUDGET = "team_member_budget_id"

# A row with more members than this is cut in lists; `members_count` stays right.
_MAX_MEMBERS = 10_000
_MAX_TRIES = 60


async def members_of(team_ids: Iterable[str]) -> dict[str, list[Answer]]:
    """`members_with_roles` per team, in the order of joining."""
    members: dict[str, list[Answer]] = {team_id: [] for team_id in team_ids}
    rows = await TeamMembership.filter(team_id__in=list(members)).order_by("id").limit(_MAX_MEMBERS)
    users = {user.user_id: user for user in await User.filter(user_id__in={row.user_id for row in rows})}
    for row in rows:
        user = users.get(row.user_id)
        email = user.user_email if user is not None else None
        members[row.team_id].append({"user_id": row.user_id, "user_email": email, "role": row.role})
    return members


async def count_per_team(table: type[Model], team_ids: Iterable[str]) -> dict[str, int]:
    """Rows of a table (keys, memberships) per team: one statement for all of them."""
    counted = table.filter(team_id__in=list(team_ids)).annotate(count=Count(table._meta.pk_attr)).group_by("team_id")
    return {row["team_id"]: row["count"] for row in await counted.values("team_id", "count")}


def team_json(team: Team | DeletedTeam, members: Sequence[Answer] = ()) -> Answer:
    """The whole row as clients parse it; credentials of callbacks are masked out."""
    row = team.to_json(members)
    row["metadata"] = masked_metadata(row["metadata"])
    aliases = {"model_aliases": row["model_aliases"]} if row["model_aliases"] else None
    return {**row, "model_id": None, "litellm_model_table": aliases, "allow_team_guardrail_config": False}


async def team_row(team: Team) -> Answer:
    """One team with its members."""
    return team_json(team, (await members_of([team.team_id]))[team.team_id])


async def find_team(team_id: str | None) -> Team | None:
    """None also for an id that no database can keep, as a path may have one."""
    return await Team.get_or_none(team_id=team_id) if team_id and may_exist(team_id) else None


async def need_team(team_id: str | None) -> Team:
    """Raises 404 in the words of the team routes (E2)."""
    team = await find_team(team_id)
    if team is None:
        raise PlainDenial(f"Team not found, passed team_id={team_id}", status=404, is_nested=True)
    return team


async def change_team(
    team_id: str,
    columns_of: Callable[[Team], Awaitable[Mapping[str, Any]]],
    *,
    action: str = "updated",
    version: int | None = None,
) -> Team:
    """Read a team, ask `columns_of` what to write, write it: in one transaction, and again when somebody was faster.

    Raises 409 when `version` is given and is not the row's, or when a team changes without a pause; 404 (E2).
    """
    tries = 1 if version is not None else _MAX_TRIES
    while True:
        tries -= 1
        try:
            async with transaction():
                team = await need_team(team_id)
                columns = await columns_of(team)
                read = version if version is not None else team.version
                if columns or version is not None:
                    await change_row(team, columns, table=TEAMS, object_id=team_id, action=action, version=read)
        except Conflict:
            if tries <= 0:
                raise
            await asyncio.sleep(random.uniform(0.001, 0.02))  # noqa: S311 (a pause, no secret)
        else:
            return team


# ---- memberships ---------------------------------------------------------------------------------------------------


async def default_budget(team: Team) -> Budget | None:
    """The budget of members that have none of their own."""
    budget_id = team.metadata.get(DEFAULT_BUDGET)
    return await Budget.get_or_none(budget_id=budget_id) if isinstance(budget_id, str) else None


async def membership_rows(team: Team, rows: Sequence[TeamMembership] | None = None) -> list[Answer]:
    """The memberships of a team (or these of them), each with the budget that holds for it."""
    if rows is None:
        rows = await TeamMembership.filter(team_id=team.team_id).order_by("id").limit(_MAX_MEMBERS)
    budget_ids = [row.budget_id for row in rows if row.budget_id]
    budgets = {budget.budget_id: budget for budget in await Budget.filter(budget_id__in=budget_ids)}
    default = await default_budget(team)
    return [membership_row(row, budgets.get(row.budget_id or ""), default) for row in rows]


def membership_row(row: TeamMembership, own: Budget | None, default: Budget | None) -> Answer:
    """One membership with its own budget, else with the team's default."""
    budget = own or default
    source = "custom" if own is not None else "team_default" if default is not None else "none"
    if own is not None and default is not None and own.budget_id == default.budget_id:
        source = "team_default"
    return {
        **row.to_json(),
        "litellm_budget_table": budget.to_json() if budget is not None else None,
        "budget_source": source,
    }
