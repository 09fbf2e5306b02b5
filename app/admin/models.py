"""Deployments: look at all of them, add to and delete from those that live in the database."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from quart import Blueprint

from ..auth.principal import current_principal
from ..auth.roles import Role
from ..deployments import Deployment
from ..errors import Conflict, Forbidden, PlainDenial
from ..models import StoredDeployment
from ..models.columns import wire_value
from ..services import services
from .audit_trail import MODELS, record_change
from .body import Table, bad_request, flag, identifier, json_object, read_body, read_query, text
from .paging import page_field, size_field

blueprint = Blueprint("admin_models", __name__)

Answer = dict[str, Any]
_PAGED: Table = {
    "page": page_field(),
    "size": size_field(1000),
    **dict.fromkeys(("model", "search", "modelId", "sortBy", "sortOrder"), identifier()),
    "wildcard_only": flag(),
}
_NEW_MODEL: Table = {
    "model_name": text().required,
    "litellm_params": json_object().required,
    "model_info": json_object(),
}
_SORTS = {"model_name": "model_name", "input_cost": "input_cost_per_token", "output_cost": "output_cost_per_token"}


def deployment_row(deployment: Deployment, *, with_address: bool) -> Answer:
    """A deployment without any secret; prices are USD per token. Only who sees all learns where it is."""
    params = {name: wire_value(value) for name, value in deployment.public_params().items()}
    if not with_address:
        params = {name: value for name, value in params.items() if name not in ("api_base", "base_url")}
    info = {
        **deployment.model_info,
        "id": deployment.id,
        "db_model": deployment.is_stored,
        "blocked": False,
        "key": deployment.upstream_model,
        "litellm_provider": deployment.provider.name,
        "mode": deployment.model_info.get("mode") or _likely_mode(deployment),
        "input_cost_per_token": wire_value(deployment.input_cost_per_token),
        "output_cost_per_token": wire_value(deployment.output_cost_per_token),
    }
    return {"model_name": deployment.model_name, "litellm_params": params, "model_info": info}


def _likely_mode(deployment: Deployment) -> str:
    """What nobody declared: the field names its embedding models so."""
    return "embedding" if "embed" in deployment.upstream_model.lower() else "chat"


def _rows(deployments: Sequence[Deployment]) -> list[Answer]:
    with_address = current_principal().can_read_all
    return [deployment_row(deployment, with_address=with_address) for deployment in deployments]


@blueprint.get("/model/info")
@blueprint.get("/v1/model/info")
async def list_models() -> Answer:
    wanted = read_query({"litellm_model_id": identifier()})["litellm_model_id"]
    if wanted is None:
        return {"data": _rows(services().deployments.all())}
    deployment = services().deployments.by_id(wanted)
    if deployment is None:
        raise PlainDenial(f"Model id = {wanted} not found on litellm proxy", status=400, is_nested=True)
    return {"data": _rows([deployment])}


@blueprint.get("/v2/model/info")
async def list_models_in_pages() -> Answer:
    asked = read_query(_PAGED, page=1, size=50)
    rows = [row for row in _rows(services().deployments.all()) if _matches(row, asked)]
    column = _SORTS.get(asked["sortBy"] or "")
    if column:
        rows.sort(key=lambda row: _sort_key(row, column), reverse=(asked["sortOrder"] or "asc").lower() == "desc")
    start = (asked["page"] - 1) * asked["size"]
    return {
        "data": rows[start : start + asked["size"]],
        "total_count": len(rows),
        "current_page": asked["page"],
        "total_pages": -(-len(rows) // asked["size"]),
        "size": asked["size"],
    }


def _matches(row: Answer, asked: Answer) -> bool:
    name = str(row["model_name"])
    return (
        asked["model"] in (None, name)
        and asked["modelId"] in (None, row["model_info"]["id"])
        and (asked["search"] or "").lower() in name.lower()
        and (not asked["wildcard_only"] or "*" in name)
    )


def _sort_key(row: Answer, column: str) -> tuple[bool, Any]:
    value = row.get(column, row["model_info"].get(column))
    return (value is not None, value if value is not None else 0)


@blueprint.post("/model/new")
async def create_model() -> Answer:
    _refuse_all_but_admins()
    sent = await read_body(_NEW_MODEL)
    name, params, info = sent["model_name"].strip(), sent["litellm_params"], sent.get("model_info") or {}
    if not name:
        raise bad_request("model_name must not be empty", "model_name")
    info = {**info, "id": _new_id(info.get("id"))}
    async with services().database.transaction():
        await record_change("created", MODELS, info["id"], after={"model_name": name, "litellm_params": params})
        try:
            row = await services().deployments.add(name, params, info, current_principal().user_id or "")
        except ValueError as problem:
            raise bad_request(str(problem), "litellm_params") from None
    return _stored_row(row)


def _refuse_all_but_admins() -> None:
    """403 for every other role, where most admin routes say 401."""
    role = current_principal().role
    if role is not Role.PROXY_ADMIN:
        raise Forbidden(f"user not allowed to change models, role= {role.value}")


def _new_id(wanted: Any) -> str:
    if wanted in (None, ""):
        return str(uuid.uuid4())
    if not isinstance(wanted, str) or len(wanted) > 255:
        raise bad_request("model_info.id must be text of at most 255 characters", "model_info.id")
    if services().deployments.by_id(wanted) is not None:
        raise Conflict(f"Model with id {wanted} already exists", param="model_info.id")
    return wanted


def _stored_row(row: StoredDeployment) -> Answer:
    """The stored row; its parameters as everybody may see them, never the ciphertext."""
    deployment = services().deployments.by_id(row.model_id)
    names = ("model_id", "model_name", "model_info", "blocked", "created_at", "created_by", "updated_at", "updated_by")
    shown = {name: wire_value(getattr(row, name)) for name in names}
    params = deployment_row(deployment, with_address=True)["litellm_params"] if deployment is not None else {}
    return {**shown, "litellm_params": params}


@blueprint.post("/model/delete")
async def delete_model() -> Answer:
    _refuse_all_but_admins()
    model_id = (await read_body({"id": identifier().required}))["id"] or ""
    row = await StoredDeployment.get_or_none(model_id=model_id)
    if row is None:
        raise bad_request(f"Model with id={model_id} is not in the database; the configuration file owns it, or nobody")
    async with services().database.transaction():
        await row.delete()
        await record_change("deleted", MODELS, model_id, before={"model_name": row.model_name})
    await services().deployments.reload()
    return {"message": f"Model: {model_id} deleted successfully"}
