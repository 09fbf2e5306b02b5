"""Credentials of providers that several deployments share by name: written here, never read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart import Blueprint
from tortoise.exceptions import IntegrityError

from ...auth.principal import current_principal
from ...deployments.deployment import Deployment, extra_headers, refuse_references
from ...deployments.target import check_address
from ...errors import Conflict, NotFound
from ...models import Credential
from ...services import services
from ...web.fields import Table, bad_request, flag, identifier, json_object, may_exist, read_body, read_query, takes
from ..audit.trail import CREDENTIALS, record_change
from ..changes import VERSION, change_row, create_row, delete_row, expected_version, transaction
from ..paging import page_field, size_field

blueprint = Blueprint("admin_credentials", __name__)

Answer = dict[str, Any]
_FIELDS: Table = {"credential_values": json_object(), "credential_info": json_object(), "model_id": identifier()}
_NEW: Table = {**_FIELDS, "credential_name": identifier().required}
_CHANGED: Table = {**_FIELDS, **VERSION, "credential_name": identifier()}
_LISTED: Table = {"page": page_field(), "page_size": size_field(1000)}

# Parameters of a deployment that say where it is and how to get in.
_OF_A_MODEL = (
    "api_key api_base base_url api_version organization custom_llm_provider extra_headers aws_access_key_id "
    "aws_secret_access_key aws_session_token aws_region_name aws_session_name aws_profile_name aws_role_name "
    "aws_web_identity_token aws_sts_endpoint aws_external_id aws_bedrock_runtime_endpoint vertex_project "
    "vertex_location vertex_credentials azure_ad_token tenant_id client_id client_secret azure_username azure_password "
    "azure_scope"
).split()
# What says only where something is, and is shown as it is.
_PLAIN = frozenset(
    "api_base base_url api_version custom_llm_provider aws_region_name vertex_project vertex_location".split()
)
_MIN_SHOWN = 16


def masked_values(values: Mapping[str, Any]) -> Answer:
    """Enough to tell two secrets apart: two characters of each end, and nothing of a short one."""
    return {name: value if name in _PLAIN else _masked(value) for name, value in values.items()}


def _masked(value: Any) -> str:
    if not isinstance(value, str) or len(value) < _MIN_SHOWN:
        return "****"
    return f"{value[:2]}****{value[-2:]}"


def _row(name: str, info: Mapping[str, Any], values: Mapping[str, Any], source: str, version: int | None) -> Answer:
    return {
        "credential_name": name,
        "display_name": info.get("display_name") or name,
        "credential_info": dict(info),
        "credential_values": masked_values(values),
        "source": source,
        "version": version,
    }


def _stored_row(row: Credential) -> Answer:
    try:
        values = services().deployments.decrypt(row.credential_values)
    except ValueError:
        # Written under another salt key: its values are lost until that one is back.
        values = {}
    return _row(row.credential_name, row.credential_info, values, "db", row.version)


def _file_rows() -> dict[str, Answer]:
    """The entries of the configuration file's `credential_list`."""
    return {
        entry["credential_name"]: _row(
            entry["credential_name"], entry["credential_info"], entry["credential_values"], "config", None
        )
        for entry in services().settings.credential_list
    }


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values that may be stored: null is not there. Raises 400 for a reference, and an address that is none."""
    given = {name: value for name, value in values.items() if value not in (None, "")}
    try:
        refuse_references(given)
        extra_headers(given)
        for name in ("api_base", "base_url"):
            if name in given:
                check_address(given[name])
    except ValueError as problem:
        raise bad_request(str(problem), "credential_values") from None
    return given


def _sent_values(sent: Mapping[str, Any]) -> dict[str, Any] | None:
    """The values of the body, or those of the deployment that it names; None when it says neither."""
    if sent.get("model_id") is None:
        return sent.get("credential_values")
    if sent.get("credential_values"):
        raise bad_request("Send credential_values or model_id, not both", "model_id")
    params = _need_deployment(sent["model_id"]).params
    return {name: params[name] for name in _OF_A_MODEL if name in params}


def _need_deployment(model_id: str) -> Deployment:
    deployment = services().deployments.by_id(model_id)
    if deployment is None:
        raise NotFound(f"Model not found: {model_id}", param="model_id")
    return deployment


async def _need(name: str) -> Credential:
    """A stored credential. Raises 400 for one of the configuration file, 404 for one that nobody knows."""
    if name in services().deployments.configured_credentials:
        raise bad_request(f"Credential '{name[:80]}' is in the configuration file; change it there", "credential_name")
    row = await Credential.get_or_none(credential_name=name) if may_exist(name) else None
    if row is None:
        raise _unknown(name)
    return row


def _unknown(name: str) -> NotFound:
    return NotFound(f"Credential not found: {name[:80]}", param="credential_name")


@blueprint.post("/credentials")
@takes(body=_NEW)
async def create_credential() -> Answer:
    sent = await read_body()
    name, values = sent["credential_name"], _sent_values(sent)
    if name is None or values is None:
        raise bad_request("Send credential_name, and credential_values or model_id")
    if name in services().deployments.configured_credentials:
        raise Conflict(f"Credential '{name}' is in the configuration file already", param="credential_name")
    user_id = current_principal().user_id
    try:
        async with transaction():
            row = await create_row(
                Credential,
                credential_name=name,
                credential_values=services().deployments.encrypt(_checked(values)),
                credential_info=sent.get("credential_info") or {},
                created_by=user_id,
                updated_by=user_id,
            )
            await record_change("created", CREDENTIALS, name, after={**row.to_json(), "values": sorted(values)})
    except IntegrityError:
        raise Conflict(f"Credential '{name}' already exists", param="credential_name") from None
    return _done("Credential created successfully")


def _done(message: str) -> Answer:
    return {"success": True, "message": message}


@blueprint.get("/credentials")
@takes(query=_LISTED)
async def list_credentials() -> Answer:
    """Those of the configuration file, then the stored ones by name: the first 1000, or a page."""
    params = read_query(page=1, page_size=1000)
    start = (params["page"] - 1) * params["page_size"]
    stored = await Credential.all().order_by("credential_name").offset(start).limit(params["page_size"])
    from_file = _file_rows()
    rows = [_stored_row(row) for row in stored if row.credential_name not in from_file]
    return {"success": True, "credentials": [*(from_file.values() if params["page"] == 1 else ()), *rows]}


@blueprint.get("/credentials/by_name/<path:credential_name>")
async def credential_by_name(credential_name: str) -> Answer:
    return {"success": True, **await _shown(credential_name)}


async def _shown(name: str) -> Answer:
    from_file = _file_rows().get(name)
    if from_file is not None:
        return from_file
    return _stored_row(await _need(name))


@blueprint.get("/credentials/by_model/<path:model_id>")
async def credential_by_model(model_id: str) -> Answer:
    """The credential that a deployment refers to, or what it has of its own in the same shape."""
    deployment = _need_deployment(model_id)
    if deployment.credential_name is not None:
        return {"success": True, **await _shown(deployment.credential_name)}
    own = {name: deployment.params[name] for name in _OF_A_MODEL if name in deployment.params}
    source = "db" if deployment.is_stored else "config"
    name = f"{deployment.public_name}-credential"
    return {"success": True, **_row(name, {}, own, source, None)}


@blueprint.patch("/credentials/<path:credential_name>")
@takes(body=_CHANGED)
async def update_credential(credential_name: str) -> Answer:
    """Values and info are merged, null removes one. Deployments that refer to it use the new ones from then on."""
    sent = await read_body()
    row = await _need(credential_name)
    if sent.get("credential_name") not in (None, row.credential_name):
        raise bad_request("A credential keeps its name: deployments refer to it", "credential_name")
    columns: Answer = {"updated_by": current_principal().user_id}
    values = _sent_values(sent)
    if values is not None:
        columns["credential_values"] = services().deployments.encrypt(_checked({**_values_of(row), **values}))
    if "credential_info" in sent:
        merged = {**row.credential_info, **sent["credential_info"]}
        columns["credential_info"] = {name: value for name, value in merged.items() if value is not None}
    # Without a version of the caller's: the one that the values were read at, or a change in between would be lost.
    version = expected_version(sent) or row.version
    await change_row(row, columns, table=CREDENTIALS, object_id=row.credential_name, version=version)
    return _done("Credential updated successfully")


def _values_of(row: Credential) -> dict[str, Any]:
    try:
        return services().deployments.decrypt(row.credential_values)
    except ValueError as problem:
        raise Conflict(f"The stored values cannot be read: {problem}. Delete the credential and add it anew.") from None


@blueprint.delete("/credentials/<path:credential_name>")
@takes(query={"force": flag()})
async def delete_credential(credential_name: str) -> Answer:
    """Refused while a deployment refers to it, since its calls would fail; `?force=true` deletes all the same."""
    row = await _need(credential_name)
    users = [
        deployment for deployment in services().deployments.all() if deployment.credential_name == row.credential_name
    ]
    if users and not read_query()["force"]:
        listed = ", ".join(f"{deployment.public_name} ({deployment.id})" for deployment in users[:10])
        raise Conflict(f"Credential '{row.credential_name}' is used by {len(users)} deployments: {listed}")
    async with transaction():
        await delete_row(row)
        await record_change("deleted", CREDENTIALS, row.credential_name, before=row.to_json())
    return _done("Credential deleted successfully")
