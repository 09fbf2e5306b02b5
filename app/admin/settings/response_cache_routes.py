"""The cache of answers as admins see it. Nothing here touches login codes or counters, which may share its Redis."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from quart import Blueprint, request

from ...errors import PlainDenial, ServiceUnavailable
from ...services import services
from ...settings.response_cache import CacheParams
from ...storage.cache import CacheAway
from ...web.fields import Table, read_body, takes, text_list
from ...web.request_body import wait_until_sent

blueprint = Blueprint("admin_cache", __name__)

Answer = dict[str, Any]
_MAX_KEYS = 1000
_NO_CACHE = "Service Unhealthy (no cache of answers is configured)"
_AWAY = "Service Unhealthy (Redis cannot be reached)"
_KEYS: Table = {"keys": text_list().required}


class AnswerCache(Protocol):
    """What the routes below ask of the cache of answers. Its methods raise CacheAway."""

    params: CacheParams

    @property
    def kind(self) -> str: ...

    async def ping(self) -> None: ...

    async def delete(self, keys: Sequence[str]) -> int: ...

    async def flush(self) -> int: ...


@blueprint.get("/cache/ping")
async def ping() -> Answer:
    """The cache of answers can be written to; 503 `cache_ping_error` when it is off or away."""
    answers = services().gateway.answers
    if answers is None:
        raise _ping_error("No cache is configured; set litellm_settings.cache: true, or POST /cache/settings")
    try:
        await answers.ping()
    except CacheAway:
        raise _ping_error("Redis cannot be reached") from None
    params = answers.params
    shown_params = {
        "mode": "default_on" if params.is_default_on else "default_off",
        "ttl": params.seconds,
        "namespace": params.namespace or None,
        "scope": params.scope,
        "supported_call_types": sorted(params.call_types) if params.call_types is not None else None,
    }
    return {
        "status": "healthy",
        "cache_type": answers.kind,
        "ping_response": True,
        "set_cache_response": "success",
        "litellm_cache_params": shown_params,
        "health_check_cache_params": {},
    }


def _ping_error(message: str) -> ServiceUnavailable:
    """The contract writes JSON into the message."""
    body = {"message": message, "litellm_cache_params": {}, "health_check_cache_params": {}}
    return ServiceUnavailable(json.dumps(body), type="cache_ping_error")


@blueprint.post("/cache/flushall")
async def flush() -> Answer:
    """Drop all cached answers and nothing else: never login codes or counters, though they share a Redis."""
    # Whoever sends a body, which nobody needs, would lose the connection to an answer that comes before its end.
    await wait_until_sent(request)
    answers = _answers()
    try:
        return {"status": "success", "deleted": await answers.flush()}
    except CacheAway:
        raise PlainDenial(_AWAY, status=503) from None


@blueprint.post("/cache/delete")
@takes(body=_KEYS)
async def delete() -> Answer:
    """Drop cached answers by the keys that `x-litellm-cache-key` named; nothing else can be reached."""
    keys = (await read_body())["keys"]
    answers = _answers()
    try:
        return {"status": "success", "deleted": await answers.delete(keys[:_MAX_KEYS])}
    except CacheAway:
        raise PlainDenial(_AWAY, status=503) from None


@blueprint.get("/cache/redis/info")
async def redis_info() -> Answer:
    """Whether Redis answers. Addresses of its other clients are nobody's business here."""
    answers = _answers()
    if answers.kind != "redis":
        raise PlainDenial("Service Unhealthy (answers are cached in memory, not in Redis)", status=503)
    try:
        await answers.ping()
    except CacheAway:
        raise PlainDenial(_AWAY, status=503) from None
    return {"num_clients": None, "clients": [], "info": {"status": "healthy"}}


def _answers() -> AnswerCache:
    """The cache of answers. Raises PlainDenial (503) where there is none."""
    answers = services().gateway.answers
    if answers is None:
        raise PlainDenial(_NO_CACHE, status=503)
    return answers
