"""Who is in an organization, in which role, with which budget."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from quart import Blueprint
from tortoise.exceptions import IntegrityError

from ...auth.principal import Principal, current_principal
from ...auth.roles import READERS, Role
from ...errors import Forbidden, InvalidRequest, PlainDenial, ValidationFailed
from ...models import Budget, OrganizationMembership, User
from ...web.fields import Table, bad_request, email, identifier, money, one_of, read_body, records, takes
from ..audit.trail import BUDGETS, ORGANIZATIONS, USERS, record_change
from ..changes import change_row, create_row, delete_row, delete_rows, save_row, transaction
from ..teams.members import shown_user
from ..users.access import is_home, refuse_reserved_id
from .access import check_may_administer, membership_json, need_organization_row, organization_rows
from .routes import OWN_BUDGET

blueprint = Blueprint("admin_organization_members", __name__)

Answer = dict[str, Any]
_MAX_MEMBERS = 500
_ROLE = one_of(Role.ORG_ADMIN.value, Role.INTERNAL_USER.value, Role.INTERNAL_USER_VIEWER.value)
_MEMBER: Table = {"role": _ROLE, "user_id": identifier(), "user_email": email()}
_ADDITION: Table = {
    "organization_id": identifier().required,
    "member": records(_MEMBER).required,
    "max_budget_in_organization": money(),
}
_NAMED: Table = {"organization_id": identifier().required, "user_id": identifier(), "user_email": email()}
_CHANGE: Table = {**_NAMED, "role": _ROLE, "max_budget_in_organization": money()}


@blueprint.post("/organization/member_add")
@takes(body=_ADDITION)
async def add_members() -> Answer:
    """Add users to an organization, all or none; one that does not exist is created with the role of the membership."""
    principal = current_principal()
    sent = await read_body()
    organization = await need_organization_row(sent["organization_id"])
    check_may_administer(principal, organization.organization_id)
    _check_members(sent["member"])
    users, memberships = [], []
    async with transaction():
        for member in sent["member"]:
            user = await _user_of(member, organization.organization_id, principal)
            row, budget = await _join(
                organization.organization_id, user, member, sent.get("max_budget_in_organization")
            )
            users.append(shown_user(user, principal))
            memberships.append(membership_json(row, user, budget))
        added = {row["user_id"]: row["user_role"] for row in memberships}
        await record_change(
            "updated", ORGANIZATIONS, organization.organization_id, before={}, after={"members_added": added}
        )
    return {
        "organization_id": organization.organization_id,
        "updated_users": users,
        "updated_organization_memberships": memberships,
    }


def _check_members(members: list[Answer]) -> None:
    if not 0 < len(members) <= _MAX_MEMBERS:
        raise bad_request(f"Send 1 to {_MAX_MEMBERS} members", "member")
    for number, member in enumerate(members):
        if not member.get("user_id") and not member.get("user_email"):
            raise ValidationFailed([(f"member.{number}", "Either user_id or user_email must be provided", "missing")])


async def _user_of(member: Mapping[str, Any], organization_id: str, principal: Principal) -> User:
    """The user, created when there is none. Raises 403 for somebody whom only an admin of the instance may add.

    Who is here already has not asked to be in the organization, and its admins see and bound whoever is in it. They
    bring in new people, who are invited, and back those who were made for it.
    """
    user_id, address = member.get("user_id"), member.get("user_email")
    user = await User.get_or_none(user_id=user_id) if user_id else await User.get_or_none(user_email=address)
    if user is None:
        refuse_reserved_id(principal, user_id)
        return await _created(user_id or str(uuid.uuid4()), address, member.get("role"), organization_id)
    if not principal.is_admin and user.user_role in READERS:
        raise Forbidden("Only a proxy admin may add an admin or admin viewer of the instance", param="member")
    if not principal.is_admin and not is_home(principal, user):
        raise Forbidden("Only a proxy admin may add a user who was not made for this organization", param="member")
    return user


async def _created(user_id: str, address: str | None, role: str | None, organization_id: str) -> User:
    is_viewer = role == Role.INTERNAL_USER_VIEWER.value
    user_role = Role.INTERNAL_USER_VIEWER if is_viewer else Role.INTERNAL_USER
    columns: Answer = {"user_email": address, "user_role": user_role.value, "organization_id": organization_id}
    if address is not None and await User.exists(user_email=address):
        raise PlainDenial(f"User with email {address} exists under another id", status=400, is_nested=True)
    user = await create_row(User, user_id=user_id, **columns)
    await record_change("created", USERS, user_id, after=user.to_json())
    return user


async def _join(
    organization_id: str, user: User, member: Mapping[str, Any], ceiling: Any
) -> tuple[OrganizationMembership, Budget | None]:
    if await OrganizationMembership.exists(organization_id=organization_id, user_id=user.user_id):
        raise _already_in(user)
    budget = await _new_budget(ceiling) if ceiling is not None else None
    try:
        row = await create_row(
            OrganizationMembership,
            organization_id=organization_id,
            user_id=user.user_id,
            user_role=member.get("role") or Role.INTERNAL_USER.value,
            budget_id=budget.budget_id if budget is not None else None,
        )
    except IntegrityError:
        raise _already_in(user) from None
    return row, budget


async def _new_budget(ceiling: Any) -> Budget:
    author = current_principal().user_id
    columns = {"max_budget": ceiling, "created_by": author, "updated_by": author}
    # Nobody has it yet; whoever is given it is written too.
    budget = await create_row(Budget, owners=(), budget_id=f"{OWN_BUDGET}member-{uuid.uuid4()}", **columns)
    await record_change("created", BUDGETS, budget.budget_id, after=budget.to_json())
    return budget


def _already_in(user: User) -> InvalidRequest:
    return bad_request(f"User already in organization. Member: user_id={user.user_id}", "member")


@blueprint.patch("/organization/member_update")
@takes(body=_CHANGE)
async def update_member() -> Answer:
    """Change role or budget of one member; answers the membership. Raises 404 for who is not in it."""
    sent = await read_body()
    row = await _named(sent)
    async with transaction():
        before = {"member": row.user_id, "user_role": row.user_role}
        if sent.get("role"):
            row.user_role = sent["role"]
        if "max_budget_in_organization" in sent:
            await _write_budget(row, sent["max_budget_in_organization"])
        await save_row(row, "user_role", "budget_id", "updated_at")
        after = {"member": row.user_id, "user_role": row.user_role}
        await record_change("updated", ORGANIZATIONS, row.organization_id, before=before, after=after)
    user = await User.get_or_none(user_id=row.user_id)
    budget = await Budget.get_or_none(budget_id=row.budget_id) if row.budget_id else None
    return membership_json(row, user, budget)


async def _named(sent: Mapping[str, Any]) -> OrganizationMembership:
    """The membership that a request names. Raises 422, 404, and 403 for who may not manage it."""
    if not sent.get("user_id") and not sent.get("user_email"):
        raise ValidationFailed([("", "Either user_id or user_email must be provided")])
    organization = await need_organization_row(sent["organization_id"])
    check_may_administer(current_principal(), organization.organization_id)
    user_id = sent.get("user_id")
    if not user_id:
        user = await User.get_or_none(user_email=sent["user_email"])
        user_id = user.user_id if user is not None else ""
    row = await OrganizationMembership.get_or_none(organization_id=organization.organization_id, user_id=user_id)
    if row is None:
        named = sent.get("user_id") or sent.get("user_email")
        raise PlainDenial(
            f"User={named} not found in organization={organization.organization_id}", status=404, is_nested=True
        )
    return row


async def _write_budget(row: OrganizationMembership, ceiling: Any) -> None:
    budget = await Budget.get_or_none(budget_id=row.budget_id) if row.budget_id else None
    if budget is not None and budget.budget_id.startswith(OWN_BUDGET):
        await change_row(budget, {"max_budget": ceiling}, table=BUDGETS, object_id=budget.budget_id, owners=[row])
    else:
        row.budget_id = (await _new_budget(ceiling)).budget_id


@blueprint.delete("/organization/member_delete")
@takes(body=_NAMED)
async def remove_member() -> Answer:
    """Take a user out of an organization; answers the organization as it is now."""
    principal = current_principal()
    row = await _named(await read_body())
    async with transaction():
        if row.budget_id and row.budget_id.startswith(OWN_BUDGET):
            await delete_rows(Budget.filter(budget_id=row.budget_id), owners=[row])
        await delete_row(row)
        removed = {"members_removed": [row.user_id]}
        await record_change("updated", ORGANIZATIONS, row.organization_id, before={}, after=removed)
    return (await organization_rows([await need_organization_row(row.organization_id)], principal))[0]
