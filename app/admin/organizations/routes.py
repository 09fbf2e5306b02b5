"""Organizations: they hold teams and members, and bound the models and the spend of all of them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from quart import Blueprint
from tortoise.exceptions import IntegrityError

from ...auth.principal import Principal, current_principal
from ...errors import Conflict, Forbidden, NotFound, Unauthenticated
from ...models import Budget, Organization, OrganizationMembership, Team, User, VirtualKey
from ...services import services
from ...web.fields import Table, bad_request, identifier, read_body, read_query, takes, text_list, whole
from ..audit.trail import BUDGETS, ORGANIZATIONS, record_change
from ..changes import VERSION, change_row, expected_version
from ..keys.changes import check_budget, delete_keys
from ..keys.fields import IN_METADATA, LIMITS, reset_of
from ..paging import page_field, rows_of, size_field
from ..teams.fields import json_value
from ..teams.routes import archive_teams, forget_teams
from .access import check_may_administer, need_organization_row, organization_rows, organizations_of

blueprint = Blueprint("admin_organizations", __name__)

Answer = dict[str, Any]

# Names of budgets that belong to one organization, or one membership in it, and go with it.
OWN_BUDGET = "organization-"
_MAX_ORGANIZATIONS = 100
_OF_BUDGET = (
    *("max_budget", "soft_budget", "budget_duration", "model_max_budget"),
    *("tpm_limit", "rpm_limit", "tpd_limit", "max_parallel_requests"),
)
_OF_METADATA = ("model_rpm_limit", "model_tpm_limit")
# What an admin of an organization may change of it: nothing that raises its ceilings.
_EDITABLE = ("organization_alias", "metadata")

_ORGANIZATION: Table = {
    **LIMITS,
    **{name: IN_METADATA[name] for name in _OF_METADATA},
    "tpd_limit": whole(),
    "organization_alias": identifier(),
    "budget_id": identifier(),
}
_NEW: Table = {**_ORGANIZATION, "organization_id": identifier(), "organization_alias": identifier().required}
_CHANGED: Table = {**_ORGANIZATION, **VERSION, "organization_id": identifier().required}
_SOME: Table = {"organization_ids": text_list().required}
_LIST: Table = {
    "org_id": identifier(),
    "org_alias": identifier(),
    "page": page_field(),
    "page_size": size_field(1000),
}
_ONE: Table = {"organization_id": identifier().required}
_ASKED: Table = {"organizations": text_list().required}


def _check_is_admin(principal: Principal, deed: str) -> None:
    """Raises 401, as clients expect of these two routes."""
    if not principal.is_admin:
        raise Unauthenticated(
            f"Only proxy admins can {deed} organizations. You are {principal.role.value}", param="user_role"
        )


@blueprint.post("/organization/new")
@takes(body=_NEW)
async def create_organization() -> Answer:
    """Create an organization with a budget of its own, unless `budget_id` names one. Raises 409 for a taken id."""
    principal = current_principal()
    _check_is_admin(principal, "create new")
    sent = await read_body()
    if not sent["organization_alias"]:
        raise bad_request("organization_alias must not be empty", "organization_alias")
    organization_id = sent.get("organization_id") or str(uuid.uuid4())
    await _check_budget(sent)
    columns = _columns(sent, {})
    async with services().database.transaction():
        if await Organization.exists(organization_id=organization_id):
            raise Conflict(f"Organization id = {organization_id} already exists", param="organization_id")
        if columns.get("budget_id") is None:
            columns["budget_id"] = (await _new_budget(_budget_columns(sent), principal)).budget_id
        by: Answer = {"created_by": principal.user_id, "updated_by": principal.user_id}
        try:
            organization = await Organization.create(organization_id=organization_id, **columns, **by)
        except IntegrityError:
            raise Conflict(f"Organization id = {organization_id} already exists", param="organization_id") from None
        await record_change("created", ORGANIZATIONS, organization_id, after=organization.to_json())
    return (await organization_rows([organization], principal))[0]


async def _check_budget(sent: Mapping[str, Any]) -> None:
    """Raises 404 for an unknown budget, 400 for one together with fields of another."""
    if sent.get("budget_id") is None:
        return
    await check_budget(sent["budget_id"])
    for name in _OF_BUDGET:
        if sent.get(name) not in (None, {}):
            raise bad_request(f"Send either budget_id or {name}", "budget_id")


def _columns(sent: Mapping[str, Any], stored: Mapping[str, Any]) -> Answer:
    """The columns of the row. `metadata` replace the old ones; the limits in them stay until they are sent."""
    columns = {name: sent[name] for name in ("organization_alias", "models", "budget_id") if name in sent}
    moved = {name: json_value(sent[name]) for name in _OF_METADATA if name in sent}
    if "metadata" in sent or moved:
        kept = {name: stored[name] for name in _OF_METADATA if name in stored}
        columns["metadata"] = {**sent.get("metadata", stored), **kept, **moved}
    return columns


def _budget_columns(sent: Mapping[str, Any]) -> Answer:
    columns = {name: sent[name] for name in _OF_BUDGET if name in sent}
    if "budget_duration" in sent:
        columns["budget_reset_at"] = reset_of(sent["budget_duration"], datetime.now(UTC))
    return columns


async def _new_budget(columns: Mapping[str, Any], principal: Principal) -> Budget:
    by: Answer = {"created_by": principal.user_id, "updated_by": principal.user_id}
    budget = await Budget.create(budget_id=f"{OWN_BUDGET}{uuid.uuid4()}", **columns, **by)
    await record_change("created", BUDGETS, budget.budget_id, after=budget.to_json())
    return budget


@blueprint.patch("/organization/update")
@takes(body=_CHANGED)
async def update_organization() -> Answer:
    """Write what was sent. Limits go to the organization's own budget; a shared one is copied first."""
    principal = current_principal()
    sent = await read_body()
    organization = await need_organization_row(sent["organization_id"])
    check_may_administer(principal, organization.organization_id)
    await _check_budget(sent)
    async with services().database.transaction():
        rows = Organization.filter(organization_id=organization.organization_id).select_for_update()
        organization = await rows.get()
        part = sent if principal.is_admin else _editable_part(sent, organization)
        columns = {**_columns(part, organization.metadata), "updated_by": principal.user_id}
        columns.update(await _written_budget(organization, _budget_columns(part), principal))
        await change_row(
            organization,
            columns,
            table=ORGANIZATIONS,
            object_id=organization.organization_id,
            version=expected_version(sent),
        )
    services().keys.forget_organization(organization.organization_id)
    return (await organization_rows([organization], principal))[0]


def _editable_part(sent: Mapping[str, Any], organization: Organization) -> Answer:
    """Raises 403 for what only an admin of the instance may change."""
    for name in sent:
        is_same = name == "models" and sent[name] == organization.models
        if name not in (*_EDITABLE, "organization_id", "version") and not is_same:
            raise Forbidden(f"Only a proxy admin may change '{name}' of an organization", param=name)
    return {name: sent[name] for name in _EDITABLE if name in sent}


async def _written_budget(organization: Organization, columns: Mapping[str, Any], principal: Principal) -> Answer:
    """Change the budget of an organization; answers the new `budget_id` when it has another one now."""
    if not columns:
        return {}
    budget = await Budget.get_or_none(budget_id=organization.budget_id) if organization.budget_id else None
    if budget is not None and budget.budget_id.startswith(OWN_BUDGET):
        await change_row(budget, columns, table=BUDGETS, object_id=budget.budget_id)
        return {}
    copied = {name: getattr(budget, name) for name in (*_OF_BUDGET, "budget_reset_at")} if budget is not None else {}
    return {"budget_id": (await _new_budget({**copied, **columns}, principal)).budget_id}


@blueprint.delete("/organization/delete")
@takes(body=_SOME)
async def delete_organizations() -> list[Answer]:
    """Delete organizations with their teams, members and keys, all or none. Raises 404 for an unknown one."""
    principal = current_principal()
    _check_is_admin(principal, "delete")
    ids = list(dict.fromkeys((await read_body())["organization_ids"]))
    if not 0 < len(ids) <= _MAX_ORGANIZATIONS:
        raise bad_request(f"Send 1 to {_MAX_ORGANIZATIONS} organization_ids", "organization_ids")
    organizations = [await need_organization_row(organization_id) for organization_id in ids]
    rows = await organization_rows(organizations, principal)
    async with services().database.transaction():
        teams = await Team.filter(organization_id__in=ids)
        keys = await archive_teams(teams, principal)
        loose = await VirtualKey.filter(organization_id__in=ids)
        await delete_keys(loose, principal)
        await _drop(organizations, ids)
    forget_teams(teams, [*keys, *loose])
    services().keys.forget_all()
    return rows


async def _drop(organizations: Sequence[Organization], ids: list[str]) -> None:
    """The rows themselves, with memberships and the budgets that nobody else has."""
    memberships = OrganizationMembership.filter(organization_id__in=ids)
    rows = await memberships
    budget_ids = {row.budget_id for row in rows} | {row.budget_id for row in organizations}
    await Budget.filter(budget_id__in=budget_ids - {None}, budget_id__startswith=OWN_BUDGET).delete()
    await memberships.delete()
    await User.filter(organization_id__in=ids).update(organization_id=None)
    for organization in organizations:
        members = [row.user_id for row in rows if row.organization_id == organization.organization_id]
        await organization.delete()
        before = {**organization.to_json(), "members": members}
        await record_change("deleted", ORGANIZATIONS, organization.organization_id, before=before)


@blueprint.get("/organization/list")
@takes(query=_LIST)
async def list_organizations() -> list[Answer]:
    """The newest organizations that the caller may see, 100 unless `page_size` says otherwise."""
    principal, asked = current_principal(), read_query(page=1, page_size=_MAX_ORGANIZATIONS)
    query = rows_of(Organization)
    visible = await organizations_of(principal)
    if visible is not None:
        query = query.filter(organization_id__in=visible)
    if asked["org_id"]:
        query = query.filter(organization_id=asked["org_id"])
    if asked["org_alias"]:
        query = query.filter(organization_alias__icontains=asked["org_alias"])
    size = asked["page_size"]
    rows = query.order_by("-created_at", "organization_id").offset((asked["page"] - 1) * size).limit(size)
    return await organization_rows(await rows, principal)


@blueprint.get("/organization/info")
@takes(query=_ONE)
async def organization_info() -> Answer:
    """One organization. Raises 404, and 403 for who is not in it."""
    principal = current_principal()
    organization = await need_organization_row(read_query()["organization_id"])
    visible = await organizations_of(principal)
    if visible is not None and organization.organization_id not in visible:
        raise Forbidden("Only members of an organization may see it", param="organization_id")
    return (await organization_rows([organization], principal))[0]


@blueprint.post("/organization/info")
@takes(body=_ASKED)
async def organizations_info() -> list[Answer]:
    """Several organizations at once (deprecated); those that the caller may not see are left out. Raises 404."""
    principal = current_principal()
    wanted = list(dict.fromkeys((await read_body())["organizations"]))[:_MAX_ORGANIZATIONS]
    if not wanted:
        raise bad_request("Send at least one organization", "organizations")
    visible = await organizations_of(principal)
    ids = wanted if visible is None else [organization_id for organization_id in wanted if organization_id in visible]
    found = await Organization.filter(organization_id__in=ids).order_by("organization_id")
    if not found:
        raise NotFound("Organizations not found", param="organizations")
    return await organization_rows(found, principal)
