"""What document.py cannot read from views: envelopes of errors, key headers, bodies of calls, odd answers."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

JSON = "application/json"


def ref(kind: str, name: str) -> Schema:
    """A pointer into `components`."""
    return {"$ref": f"#/components/{kind}/{name}"}


def _object(properties: Schema, *required: str, **more: Any) -> Schema:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {}), **more}


_TEXT: Schema = {"type": "string"}

# The envelopes of app/errors.py under the names of its docstring.
ENVELOPES: dict[str, Schema] = {
    "Error": _object(
        {
            "error": _object(
                {
                    "message": _TEXT,
                    "type": {"type": "string", "examples": ["bad_request_error"]},
                    "param": {"type": ["string", "null"], "description": "The field or parameter that is meant"},
                    "code": {"type": "string", "description": "The status as text, or a word"},
                },
                "message",
                "type",
                "param",
                "code",
            )
        },
        "error",
        additionalProperties=False,
        description="E1: most refusals",
    ),
    "Detail": _object(
        {"detail": {"anyOf": [_TEXT, _object({"error": _TEXT}, "error", additionalProperties=False)]}},
        "detail",
        additionalProperties=False,
        description="E2: a plain refusal",
    ),
    "Problems": _object(
        {
            "detail": {
                "type": "array",
                "minItems": 1,
                "items": _object(
                    {
                        "type": _TEXT,
                        "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                        "msg": _TEXT,
                    },
                    "type",
                    "loc",
                    "msg",
                ),
            }
        },
        "detail",
        additionalProperties=False,
        description="E3: every wrong field at once",
    ),
}

_RETRY_AFTER: Schema = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 0}}}

# Status -> (name, description, headers). All of them have one of the envelopes as body.
_REFUSALS: dict[int, tuple[str, str, Schema]] = {
    400: ("BadRequest", "A value that cannot be meant, or a call that cannot be made", {}),
    401: ("Unauthenticated", "No key, a wrong, expired or blocked key, or a role that is too low", {}),
    403: ("Forbidden", "The key is good, and this is not for it", {}),
    404: ("NotFound", "There is no such object, or not for this caller", {}),
    408: ("Timeout", "The provider took too long", {}),
    409: ("Conflict", "It exists already, or somebody changed it since it was read", {}),
    413: ("TooLarge", "The body is larger than this gateway accepts", {}),
    422: ("Unprocessable", "Fields are missing or of the wrong type; for calls also a budget that is spent", {}),
    429: ("TooManyRequests", "A rate limit, or too many failed sign-ins", _RETRY_AFTER),
    500: ("ProviderFailed", "The provider could not be reached, or its answer could not be read", {}),
    502: ("BadGateway", "The provider's gateway failed", {}),
    503: ("Unavailable", "The database or the provider is away for the moment", _RETRY_AFTER),
    504: ("GatewayTimeout", "The provider's gateway timed out", {}),
}

REFUSAL_NAMES: dict[int, str] = {status: name for status, (name, _, _) in _REFUSALS.items()}


def refusal_responses() -> Schema:
    """`components.responses`: what each status above 399 looks like."""
    found: Schema = {}
    for status, (name, description, headers) in _REFUSALS.items():
        shapes = ["Error", "Detail", *(["Problems"] if status == 422 else [])]
        body = {JSON: {"schema": {"anyOf": [ref("schemas", shape) for shape in shapes]}}}
        found[name] = {"description": description, "content": body, **({"headers": headers} if headers else {})}
    return found


# ---- who is calling ------------------------------------------------------------------------------------------------

_KEY_HEADERS = ("x-litellm-api-key", "x-api-key", "api-key", "x-goog-api-key", "Ocp-Apim-Subscription-Key")


def security_schemes(own_header: str | None) -> dict[str, Schema]:
    """Every header that may carry a key; `own_header` is general_settings.litellm_key_header_name."""
    headers = (*_KEY_HEADERS, *([own_header] if own_header else []))
    schemes = {"bearer": {"type": "http", "scheme": "bearer", "description": "A virtual key or the master key"}}
    return schemes | {name: {"type": "apiKey", "in": "header", "name": name} for name in headers}


CHANGED_BY: Schema = {
    "name": "litellm-changed-by",
    "in": "header",
    "description": "On whose behalf, for the audit log",
    "schema": {"type": "string"},
}


# ---- bodies that no table describes --------------------------------------------------------------------------------

_NUMBER, _WHOLE, _FLAG = {"type": ["number", "null"]}, {"type": ["integer", "null"]}, {"type": ["boolean", "null"]}
_MODEL: Schema = {"type": "string", "description": "A model of /models"}
_SAMPLING: Schema = {
    "stream": _FLAG,
    "max_tokens": _WHOLE,
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "n": _WHOLE,
    "stop": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}, {"type": "null"}]},
    "user": {"type": ["string", "null"], "description": "The end user"},
}
_MESSAGE = _object({"role": _TEXT, "content": {"type": ["string", "array", "null"]}}, "role")
_LOGIN = _object({"username": _TEXT, "password": {"type": "string", "format": "password"}})
_INPUT: Schema = {"type": ["string", "array"]}

# Function of a view -> schema of its body. A call takes any other field of the dialect, and passes it on.
BODIES: dict[str, Schema] = {
    "chat_completions": _object(
        {"model": _MODEL, "messages": {"type": "array", "minItems": 1, "items": _MESSAGE}, **_SAMPLING}, "messages"
    ),
    "completions": _object({"model": _MODEL, "prompt": _INPUT, **_SAMPLING}, "prompt"),
    "embeddings": _object({"model": _MODEL, "input": _INPUT, "user": _SAMPLING["user"]}, "input"),
    "form_login": _LOGIN,
    "login": _LOGIN,
    "start_worker_login": _object({**_LOGIN["properties"], "code_challenge": {"type": ["string", "null"]}}),
    "exchange_login_code": _object({"code": _TEXT, "code_verifier": {"type": ["string", "null"]}}, "code"),
}
BODY_TYPES: dict[str, str] = {"form_login": "application/x-www-form-urlencoded"}

_ANSWER: Schema = _object(
    {"id": _TEXT, "object": _TEXT, "model": _TEXT, "usage": {"type": ["object", "null"]}}, "object"
)

# Function of a view -> schema of its good answer, where clients depend on more than "some JSON".
ANSWERS: dict[str, Schema] = {
    "chat_completions": {**_ANSWER, "description": "A chat completion"},
    "completions": {**_ANSWER, "description": "A text completion"},
    "embeddings": {**_ANSWER, "description": "Embeddings"},
    "list_models": _object({"object": {"const": "list"}, "data": {"type": "array", "items": _object({"id": _TEXT})}}),
}


# ---- answers that are not 200 with JSON ----------------------------------------------------------------------------

# "METHOD /path" as declared -> {status: media type, or None for an answer without a body}.
SUCCESSES: dict[str, dict[int, str | None]] = {
    "GET /": {302: "text/html"},
    "GET /metrics": {200: "text/plain"},
    "GET /docs": {200: "text/html"},
    "GET /docs/<path:name>": {200: "*/*"},
    "GET /redoc": {302: "text/html"},
    "GET /get_image": {200: "image/svg+xml", 307: "text/html"},
    "GET /get_favicon": {200: "image/svg+xml", 307: "text/html"},
    "GET /favicon.ico": {200: "image/svg+xml", 307: "text/html"},
    "POST /login": {303: "text/html", 429: "text/html"},
    "GET /fallback/login": {200: "text/html"},
    "GET /sso/key/generate": {200: "text/html"},
    "GET /sso/callback": {},
    "GET /health/readiness": {200: JSON, 503: JSON},
    "GET /health": {200: JSON, 503: JSON},
    "POST /v1/access_group": {201: JSON},
    "POST /v1/unified_access_group": {201: JSON},
    "DELETE /v1/access_group/<path:access_group_id>": {204: None},
    "DELETE /v1/unified_access_group/<path:access_group_id>": {204: None},
}
STREAM = "text/event-stream"

# Refusals of a public route that looks at a secret in its body.
MORE_REFUSALS: dict[str, tuple[int, ...]] = {
    "POST /onboarding/claim_token": (401,),
    "GET /onboarding/get_token": (401,),
    "GET /sso/callback": (400,),
}
