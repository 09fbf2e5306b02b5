"""The cache as admins see it: there is no cache of responses in this version, so Redis is answered for, if it is there.

Nothing here touches login codes or counters: they live in the same Redis under other names.
"""

from __future__ import annotations

import json
from typing import Any

from quart import Blueprint

from ..cache import CacheAway
from ..errors import PlainDenial, ServiceUnavailable
from ..sealed_settings import shown
from ..services import services
from .body import Table, json_object, read_body, takes, text_list
from .changes import VERSION, expected_version
from .config_fields import name_without_effect, refuse_references
from .config_sections import Section, change_section, kept, merged, read_section

blueprint = Blueprint("admin_cache", __name__)

Answer = dict[str, Any]
# Names of cached responses begin with it, below the prefix of all our names in Redis (`quarterdeck:`).
RESPONSE_PREFIX = "response:"
_SECTION = "cache_settings"
_PROBE = "cache-ping"
_NO_CACHE = "Service Unhealthy (no cache of responses is configured)"
_SETTINGS: Table = {"cache_settings": json_object().required}
_KEYS: Table = {"keys": text_list().required}
# (name, type of its input, default, meaning): keys of the contract's `cache_params`.
_FORM = (
    ("type", "String", "redis", "Where responses are kept."),
    ("host", "String", None, "Host of Redis."),
    ("port", "String", None, "Port of Redis."),
    ("password", "String", None, "Password of Redis."),
    ("ssl", "Boolean", False, "Speak TLS with Redis."),
    ("namespace", "String", None, "Begin of every name in the cache."),
    ("ttl", "Float", None, "Seconds that a response is kept."),
    ("mode", "String", "default_on", "Whether calls use the cache without asking for it."),
    ("max_connections", "Integer", None, "Most connections of one process."),
)


# ---- settings ------------------------------------------------------------------------------------------------------


@blueprint.get("/cache/settings")
async def cache_settings() -> Answer:
    stored = shown(await read_section(_SECTION))
    name_without_effect(f"{_SECTION}.{name}" for name in stored)
    fields = [
        {
            "field_name": name,
            "field_type": kind,
            "field_value": stored.get(name),
            "field_description": f"{meaning} Without effect in this version.",
            "field_default": default,
            "options": None,
            "ui_field_name": name.replace("_", " ").capitalize(),
            "link": None,
        }
        for name, kind, default, meaning in _FORM
    ]
    return {"fields": fields, "current_values": stored, "redis_type_descriptions": {"node": "One Redis server"}}


@blueprint.post("/cache/settings")
@takes(body={**_SETTINGS, **VERSION})
async def update_cache_settings() -> Answer:
    """Merge into the stored settings; null takes a key out."""
    sent = await read_body()
    values = sent["cache_settings"]
    refuse_references(values, _SECTION)

    def changed(stored: Section) -> Section:
        # Addresses and passwords stand side by side: who changes an address sends the password again.
        return merged({}, kept({**shown(stored), **values}, stored, _SECTION))

    stored = shown((await change_section(_SECTION, changed, version=expected_version(sent))).values)
    name_without_effect(f"{_SECTION}.{name}" for name in stored)
    return {"message": "Cache settings updated successfully", "status": "success", "settings": stored}


@blueprint.post("/cache/settings/test")
@takes(body=_SETTINGS)
async def test_cache_settings() -> Answer:
    """Nothing is connected to: this version has no cache of responses to try."""
    await read_body()
    name_without_effect([_SECTION])
    text = "There is no cache of responses in this version"
    return {"status": "failed", "message": text, "error": text}


# ---- operation -----------------------------------------------------------------------------------------------------


@blueprint.get("/cache/ping")
async def ping() -> Answer:
    """Redis answers and can be written to; 503 `cache_ping_error` without Redis or when it is away."""
    cache = services().cache
    if not cache.is_shared:
        raise _ping_error("No cache is configured; set REDIS_URL")
    try:
        await cache.set(_PROBE, "1", 5.0)
    except CacheAway:
        raise _ping_error("Redis cannot be reached") from None
    return {
        "status": "healthy",
        "cache_type": "redis",
        "ping_response": await cache.is_healthy(),
        "set_cache_response": "success",
        "litellm_cache_params": {},
        "health_check_cache_params": {},
    }


def _ping_error(message: str) -> ServiceUnavailable:
    """The contract writes JSON into the message."""
    body = {"message": message, "litellm_cache_params": {}, "health_check_cache_params": {}}
    return ServiceUnavailable(json.dumps(body), type="cache_ping_error")


@blueprint.post("/cache/flushall")
async def flush() -> Answer:
    """No response is cached in this version, and nothing else is anybody's to flush: never codes or counters."""
    await _refuse_without_redis()
    return {"status": "success", "deleted": 0}


@blueprint.post("/cache/delete")
@takes(body=_KEYS)
async def delete() -> Answer:
    """Drop cached responses by name; names of anything else cannot be reached."""
    keys = (await read_body())["keys"]
    await _refuse_without_redis()
    try:
        for key in keys[:1000]:
            await services().cache.delete(f"{RESPONSE_PREFIX}{key}")
    except CacheAway:
        raise PlainDenial("Service Unhealthy (Redis cannot be reached)", status=503) from None
    return {"status": "success"}


@blueprint.get("/cache/redis/info")
async def redis_info() -> Answer:
    """Whether Redis answers. Addresses of its other clients are nobody's business here."""
    await _refuse_without_redis()
    return {"num_clients": None, "clients": [], "info": {"status": "healthy"}}


async def _refuse_without_redis() -> None:
    cache = services().cache
    if not cache.is_shared:
        raise PlainDenial(_NO_CACHE, status=503)
    if not await cache.is_healthy():
        raise PlainDenial("Service Unhealthy (Redis cannot be reached)", status=503)
