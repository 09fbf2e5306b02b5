"""Cache keys of answers, and the cache controls of a call (`cache` of the body, `Cache-Control`). Pure.

A key is the hash of everything that decides an answer, and of who may share it: whole and streamed answers of the same
request have the same key, whatever the order of the JSON keys in the body.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Raw

from ...auth.principal import Principal
from ...errors import Forbidden, InvalidRequest
from ...protocols.dialect import ClientRequest
from ...protocols.json_fields import BROKEN_JSON
from ...protocols.openai.request import EMBEDDINGS
from ...settings.response_cache import CacheParams, is_namespace

_any = msgspec.json.Decoder().decode
_canonical = msgspec.json.Encoder(order="sorted").encode

_MAX_SECONDS = 30 * 86_400.0
# A larger batch is not looked up item by item.
MAX_ITEMS = 256

# Fields that do not decide the answer: who calls, how it is sent, and what happens when it fails. Any other field is
# part of the key, so that one that is missing here costs a miss, not a wrong answer.
_FIELDS_NOT_IN_KEY = frozenset(
    "model stream stream_options user metadata litellm_metadata tags cache caching safety_identifier prompt_cache_key "
    "fallbacks context_window_fallbacks content_policy_fallbacks num_retries timeout stream_timeout disable_fallbacks "
    "max_retries priority no-log callbacks service_callback logger_fn litellm_disabled_callbacks proxy_server_request "
    "input_cost_per_token output_cost_per_token fallback_depth litellm_call_id litellm_trace_id "
    "litellm_session_id".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheControls:
    """The cache controls of one call, in seconds. `max_age` None: an answer of any age will do."""

    reads: bool = True
    writes: bool = True
    seconds: float
    max_age: float | None = None
    namespace: str = ""


def read_controls(
    fields: Mapping[str, Raw], header: str, params: CacheParams, allowed: Sequence[str]
) -> CacheControls | None:
    """The controls of the body's `cache` and of the header `Cache-Control`; None for a call that
    does not use the cache.

    `allowed`: the only controls that the caller's key may use, all of them when empty. Raises InvalidRequest (400) for
    invalid controls, Forbidden (403) for one that the key may not use.
    """
    given = {**_from_header(header), **_from_body(fields.get("cache"))} if header or "cache" in fields else {}
    for name in given if allowed else ():
        if name not in allowed:
            raise Forbidden(
                f"This key may not use the cache control '{name}'. Allowed: {', '.join(allowed)}", param="cache"
            )
    is_used = given.get("use-cache", params.is_default_on)
    controls = CacheControls(
        reads=not given.get("no-cache", False),
        writes=not given.get("no-store", False),
        seconds=min(given.get("ttl", params.seconds), _MAX_SECONDS),
        max_age=given.get("s-maxage"),
        namespace=given.get("namespace", params.namespace),
    )
    return controls if is_used and (controls.reads or controls.writes) else None


def _from_header(header: str) -> dict[str, Any]:
    """`no-cache`, `no-store` and `max-age=60`; unknown directives are ignored, as HTTP requires."""
    found: dict[str, Any] = {}
    for directive in header.split(",") if header else ():
        name, _, value = directive.strip().lower().partition("=")
        if name in ("no-cache", "no-store"):
            found[name] = True
        elif name in ("max-age", "s-maxage") and value.strip('"').isdecimal():
            found["s-maxage"] = float(value.strip('"')[:12])
    return found


def _from_body(raw: Raw | None) -> dict[str, Any]:
    try:
        value = _any(raw) if raw is not None else None
    except BROKEN_JSON as problem:
        raise InvalidRequest(f"Invalid JSON payload: 'cache': {problem}", param="cache") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest("'cache' must be an object, as {\"no-cache\": true}.", param="cache")
    found: dict[str, Any] = {}
    for name, control in value.items():
        if control is None:
            continue
        if name in ("use-cache", "no-cache", "no-store"):
            found[name] = _flag(name, control)
        elif name in ("ttl", "s-maxage", "s-max-age"):
            found[name.replace("max-age", "maxage")] = _seconds(name, control)
        elif name == "namespace":
            found[name] = _namespace(control)
    return found


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest(f"'cache.{name}' must be true or false.", param="cache")
    return value


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise InvalidRequest(f"'cache.{name}' must be a number of seconds.", param="cache")
    return float(value)


def _namespace(value: Any) -> str:
    if not isinstance(value, str) or not is_namespace(value):
        raise InvalidRequest("'cache.namespace' must be short printable ASCII without spaces.", param="cache")
    return value


# ---- keys ----------------------------------------------------------------------------------------------------------


def scope_of(principal: Principal, scope: str) -> str:
    """Who shares the answers that this caller caches. Sessions of the console share a team id that is no team."""
    team_id = principal.team_id if not principal.is_session else None
    if scope == "global":
        return ""
    if scope == "organization" and principal.organization_id:
        return f"organization:{principal.organization_id}"
    if scope != "key":
        if team_id:
            return f"team:{team_id}"
        if principal.user_id:
            return f"user:{principal.user_id}"
    return f"key:{principal.key_hash}"


def answer_keys(
    request: ClientRequest, *, group: str, owners: Iterable[str], scope: str, namespace: str, tags: Sequence[str] = ()
) -> list[str]:
    """The key of a request's answer; for embeddings one for each item of the input.

    `group`: the model group that the name stands for, and `owners` the teams whose deployments it consists of ("" for
    shared ones): what a team's own model says is never what the shared one of that name says, whatever the scope.
    `tags`: those that decide which of its deployments answers. No key for a body that cannot be encoded in one way
    only, as one with numbers out of range.
    """
    item_name = request.endpoint.required if request.endpoint is EMBEDDINGS else ""
    fields = {name: raw for name, raw in request.fields.items() if name not in _FIELDS_NOT_IN_KEY and name != item_name}
    try:
        values = {name: _any(raw) for name, raw in fields.items()}
        digest = sha256(
            _canonical([namespace, scope, request.endpoint.path, group, sorted(owners), sorted(tags), values])
        )
        items = input_items(_any(request.fields[item_name])) if item_name else None
    except (*BROKEN_JSON, OverflowError):
        return []
    prefix = f"{namespace}:" if namespace else ""
    if items is None:
        return [] if item_name else [prefix + digest.hexdigest()]
    keys = []
    for item in items:
        item_digest = digest.copy()
        item_digest.update(_canonical(item))
        keys.append(prefix + item_digest.hexdigest())
    return keys


def input_items(value: Any) -> list[Any] | None:
    """The items of an embedding's input, each text or a list of tokens; None for what is not cached item by item."""
    if isinstance(value, str) or (isinstance(value, list) and value and isinstance(value[0], int)):
        return [value]
    if isinstance(value, list) and 0 < len(value) <= MAX_ITEMS:
        return value
    return None
