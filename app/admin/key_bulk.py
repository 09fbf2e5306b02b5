"""Many keys in one call: each succeeds or fails for itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart import Blueprint

from ..auth.principal import Principal, current_principal
from ..errors import GatewayError, PlainDenial
from ..web.fields import Field, Table, WrongValue, bad_request, read_body, read_fields, table_schema, takes, text
from .changes import expected_version
from .key_access import check_may_set
from .key_fields import CHANGED_KEY
from .key_issue import change_key, need_key
from .key_policy import within_ceilings
from .keys import refuse_session

blueprint = Blueprint("admin_key_bulk", __name__)

Answer = dict[str, Any]
MOST_ITEMS = 500
_ITEM: Table = {**CHANGED_KEY, "key": text().required}


def objects(item: Table) -> Field:
    """A list of JSON objects whose fields are checked one object at a time, so that one bad one spoils no other."""

    def read(value: Any) -> list[Mapping[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise WrongValue("This must be a list of JSON objects", "list_type")
        if len(value) > MOST_ITEMS:
            raise bad_request(f"At most {MOST_ITEMS} in one call, got {len(value)}")
        return value

    return Field(read, empty=list, schema={"type": "array", "maxItems": MOST_ITEMS, "items": table_schema(item)})


@blueprint.post("/key/bulk_update")
@takes(body={"keys": objects(_ITEM)})
async def update_keys() -> Answer:
    principal = current_principal()
    items = (await read_body()).get("keys")
    if not items:
        raise PlainDenial("No keys provided for update", status=400, is_nested=True)
    changed: list[Answer] = []
    failed: list[Answer] = []
    for item in items:
        name = item.get("key") if isinstance(item.get("key"), str) else None
        try:
            changed.append({"key": name, "key_info": await _updated(item, principal)})
        except GatewayError as problem:
            failed.append({"key": name, "key_info": None, "failed_reason": problem.message})
    return {"total_requested": len(items), "successful_updates": changed, "failed_updates": failed}


async def _updated(item: Mapping[str, Any], principal: Principal) -> Answer:
    sent = within_ceilings(read_fields(item, _ITEM))
    key = await need_key(sent.pop("key"))
    refuse_session(key)
    await check_may_set(principal, sent, key)
    version = expected_version({"version": sent["version"]}) if sent.get("version") else None
    return (await change_key(key, sent, principal, version=version)).as_wire()
