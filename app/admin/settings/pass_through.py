"""Pass-through endpoints that are stored in the general settings: served beside those of the file, without a restart.

Headers hold credentials: they are encrypted at rest and masked out in answers. A stored header is never sent to an
address that somebody wrote without knowing it.
"""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlsplit

from quart import Blueprint, current_app

from ...errors import PlainDenial
from ...security.encrypted_settings import has_mask
from ...security.masking import MASK, masked
from ...settings.config_file import http_address
from ...settings.pass_through import read_endpoint
from ...web.fields import (
    Field,
    Table,
    bad_request,
    flag,
    identifier,
    json_object,
    money,
    read_body,
    read_query,
    takes,
    text,
    text_list,
    whole,
)
from ...web.own_paths import is_own_path
from ..changes import VERSION, expected_version
from .fields import name_effects, refuse_references
from .sections import Section, anything, change_section, kept, read_section

blueprint = Blueprint("admin_pass_through", __name__)

Answer = dict[str, Any]
_SECTION, _KEY = "general_settings", "pass_through_endpoints"
_MAX_ENDPOINTS = 500


def _path() -> Field:
    read_text = text(500).read

    def read(value: Any) -> str:
        path: str = read_text(value)
        if not path.startswith("/") or path.startswith("//"):
            raise bad_request("path starts with one /")
        return path

    return Field(read, is_nullable=False, schema={"type": "string", "maxLength": 500})


def _target() -> Field:
    read_text = text(2000).read

    def read(value: Any) -> str:
        if value == MASK:
            return MASK
        try:
            return http_address(read_text(value))
        except ValueError as problem:
            raise bad_request(f"target {problem}") from None

    return Field(read, is_nullable=False, schema={"type": "string", "maxLength": 2000})


_CHANGE: Table = {
    "path": _path(),
    "target": _target(),
    "headers": json_object(),
    "default_query_params": json_object(),
    "include_subpath": flag(),
    "cost_per_request": money(),
    "auth": flag(),
    "timeout": whole(lowest=1, highest=86_400),
    "methods": text_list(),
    "guardrails": anything(),
    "forward_headers": flag(),
    "merge_query_params": flag(),
}
_NEW: Table = {**_CHANGE, "path": _path().required, "target": _target().required, "id": identifier(64)}
_DEFAULTS = {"headers": {}, "include_subpath": False, "auth": True, "cost_per_request": 0.0, "methods": None}
_ONE: Table = {"endpoint_id": identifier().required}


def _endpoints(stored: Section) -> list[dict[str, Any]]:
    rows = stored.get(_KEY)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _answer(rows: list[dict[str, Any]]) -> Answer:
    name_effects(_SECTION, [_KEY])
    return {"endpoints": [masked(row) for row in rows]}


def _found(stored: Section, endpoint_id: str | None) -> dict[str, Any]:
    for row in _endpoints(stored):
        if row.get("id") == endpoint_id:
            return row
    raise PlainDenial("No stored pass-through endpoint has this id", status=404, is_nested=True)


@blueprint.get("/config/pass_through_endpoint")
@takes(query={"endpoint_id": identifier()})
async def list_endpoints() -> Answer:
    """The stored endpoints, or the one with this id."""
    endpoint_id = read_query()["endpoint_id"]
    stored = await read_section(_SECTION)
    return _answer(_endpoints(stored) if endpoint_id is None else [_found(stored, endpoint_id)])


@blueprint.post("/config/pass_through_endpoint")
@takes(body=_NEW)
async def add_endpoint() -> Answer:
    """Store an endpoint. 400 when its path is taken."""
    sent = _as_json(await read_body())
    if has_mask(sent):
        raise bad_request("A new endpoint has no stored secrets to keep", "headers")
    row = {**_DEFAULTS, **sent, "id": sent.get("id") or str(uuid.uuid4())}
    _refuse_useless(row)

    def added(stored: Section) -> Section:
        rows = _endpoints(stored)
        if any(row["path"] == endpoint.get("path") or row["id"] == endpoint.get("id") for endpoint in rows):
            raise bad_request("Another endpoint has this path or id", "path")
        if len(rows) >= _MAX_ENDPOINTS:
            raise bad_request(f"At most {_MAX_ENDPOINTS} endpoints can be stored", "path")
        return {**stored, _KEY: [*rows, row]}

    await change_section(_SECTION, added)
    return _answer([row])


@blueprint.post("/config/pass_through_endpoint/<path:endpoint_id>")
@takes(body={**_CHANGE, **VERSION})
async def change_endpoint(endpoint_id: str) -> Answer:
    """Change what was sent of one endpoint."""
    sent = _as_json(await read_body())
    version = expected_version(sent)
    sent.pop("version", None)

    def changed(stored: Section) -> Section:
        was = _found(stored, endpoint_id)
        row = {**was, **{name: kept(value, was.get(name), name) for name, value in sent.items()}}
        _refuse_moved_secrets(was, row, sent)
        _refuse_useless(row)
        if any(endpoint.get("path") == row["path"] and endpoint is not was for endpoint in _endpoints(stored)):
            raise bad_request("Another endpoint has this path", "path")
        return {**stored, _KEY: [row if endpoint is was else endpoint for endpoint in _endpoints(stored)]}

    stored = await change_section(_SECTION, changed, version=version)
    return _answer([_found(stored.values, endpoint_id)])


def _refuse_useless(row: dict[str, Any]) -> None:
    """400 for an endpoint that could not be served, or that one of the instance's own routes would hide."""
    try:
        path = read_endpoint(row).path
    except ValueError as problem:
        raise bad_request(f"The endpoint {problem}") from None
    if is_own_path(current_app.url_map, path):
        raise bad_request("This path is one of the instance's own routes, which would hide the endpoint", "path")


def _refuse_moved_secrets(was: dict[str, Any], row: dict[str, Any], sent: dict[str, Any]) -> None:
    """A credential stays with the host that it was given for: who moves the target sends it again."""
    before, after = (urlsplit(str(endpoint.get("target"))) for endpoint in (was, row))
    is_moved = (before.scheme, before.netloc) != (after.scheme, after.netloc)
    for name in ("headers", "default_query_params"):
        is_kept = name not in sent or has_mask(sent[name])
        if is_moved and was.get(name) and is_kept:
            raise bad_request(f"The target has another host: send its {name} again", name)


@blueprint.delete("/config/pass_through_endpoint")
@takes(query=_ONE)
async def delete_endpoint() -> Answer:
    """Take one endpoint out; answers it. 404 when there is none."""
    endpoint_id = read_query()["endpoint_id"]
    gone: list[dict[str, Any]] = []

    def without(stored: Section) -> Section:
        gone[:] = [_found(stored, endpoint_id)]
        return {**stored, _KEY: [row for row in _endpoints(stored) if row.get("id") != endpoint_id]}

    await change_section(_SECTION, without)
    return _answer(gone)


def _as_json(sent: dict[str, Any]) -> dict[str, Any]:
    """Money as JSON. Raises 400 for references to the environment."""
    for name, value in sent.items():
        refuse_references(value, name)
    if sent.get("cost_per_request") is not None:
        sent["cost_per_request"] = float(sent["cost_per_request"])
    return sent
