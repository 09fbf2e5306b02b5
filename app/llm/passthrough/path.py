"""Path, query, headers and models of a pass-through request, validated as untrusted input.

Pure. Nothing here may let a caller choose the host that a stored credential is sent to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from ...errors import InvalidRequest
from ...protocols.json_fields import read_fields
from ...protocols.multipart import parse_form
from ...settings.header_rules import comparable, may_be_set

Pairs = list[tuple[str, str]]

_MAX_PATH = 4096
_MAX_PARAMETERS = 200
# Shorter values are no credentials, and masking them would damage other text.
_MIN_SECRET_LENGTH = 8
# Allowed in a path segment by RFC 3986.
_SEGMENT_CHARACTERS = "-._~!$&'()*+,;=:@"
# AWS signs the path as it is sent: only unreserved characters stay as they are.
_UNRESERVED = "-._~"

# Not forwarded: credentials of the caller, what our HTTP client sets itself, and headers of proxies. What frames a
# message and what is hop-by-hop is named by header_rules.py.
_DROPPED_REQUEST_HEADERS = frozenset(
    "authorization x-api-key api-key x-goog-api-key ocp-apim-subscription-key cookie cookie2 proxy-authorization "
    "accept-encoding forwarded via x-real-ip remote-addr true-client-ip cf-connecting-ip x-client-ip x-original-url "
    "x-rewrite-url x-http-method-override x-method-override x-http-method origin referer x-goog-user-project "
    "x-goog-iam-authorization-token x-goog-iap-jwt-assertion x-amz-date x-amz-security-token "
    "x-amz-content-sha256".split()
)
_MARKED_PREFIX = "x-pass-"
_DROPPED_REQUEST_PREFIXES = ("x-litellm-", "x-forwarded-", "sec-", "proxy-", "x-quarterdeck-")

# Not returned: hop-by-hop, cookies, what our server sets itself, and what would act on this origin in a browser.
_DROPPED_RESPONSE_HEADERS = frozenset(
    "connection keep-alive te trailer transfer-encoding upgrade proxy-authenticate proxy-connection set-cookie "
    "set-cookie2 content-length content-encoding date server alt-svc strict-transport-security clear-site-data "
    "service-worker-allowed public-key-pins content-security-policy content-security-policy-report-only "
    "x-frame-options x-content-type-options nel report-to reporting-endpoints refresh".split()
)
_DROPPED_RESPONSE_PREFIXES = ("access-control-", "proxy-", "x-litellm-")

# Path segments that a model follows, in lower case: some servers ignore case.
_PATH_MODEL_SEGMENTS = {
    "gemini": ("models", "tunedmodels"),
    "vertex_ai": ("models",),
    "azure": ("deployments",),
    "azure_ai": ("deployments",),
}
# Body fields in which calls of Bedrock without a model in the path name it, at any depth.
_BEDROCK_MODEL_FIELDS = frozenset({"modelId", "modelArn", "targetModelId"})
# White space, byte order marks, and zeros of wider encodings: what may precede the brace of a JSON text.
_BEFORE_JSON = b" \t\r\n\x00\xef\xbb\xbf\xfe\xff"


# ---- path and query ------------------------------------------------------------------------------------------------


def safe_segments(raw: str) -> tuple[str, ...]:
    """The segments of a percent-encoded path, decoded once. Raises InvalidRequest for one that could escape."""
    if len(raw) > _MAX_PATH:
        raise InvalidRequest("The path is too long", param="path")
    segments = raw.removesuffix("/").split("/")
    try:
        decoded = tuple(unquote(segment, errors="strict") for segment in segments)
    except UnicodeDecodeError:
        raise InvalidRequest("The path is not valid UTF-8", param="path") from None
    if not all(_is_safe(segment) for segment in decoded):
        raise InvalidRequest("The path has a segment that cannot be relayed", param="path")
    return decoded


def _is_safe(segment: str) -> bool:
    """Whether a segment stays one however often it is decoded: no `..`, no empty part, no backslash."""
    text = segment
    for _ in range(4):
        if "\\" in text or not text.isprintable():
            return False
        if any(part.split(";")[0].strip() in ("", ".", "..") for part in text.split("/")):
            return False
        decoded_again = unquote(text)
        if decoded_again == text:
            return True
        text = decoded_again
    return False


def encode_path(segments: Iterable[str], *, is_strict: bool = False) -> str:
    """The path to send: `/`, and each segment with everything encoded that could be misread."""
    safe = _UNRESERVED if is_strict else _SEGMENT_CHARACTERS
    return "/" + "/".join(quote(segment, safe=safe) for segment in segments)


def read_query(raw: bytes, *, without: Iterable[str] = ("key", "userProject", "$userProject")) -> Pairs:
    """The parameters of a query without those that may hold the caller's key, or name a project of Google to charge.

    Raises InvalidRequest for too many.
    """
    dropped = set(without)
    try:
        text = raw.decode("ascii", "replace")
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError:
        raise InvalidRequest("The query has too many parameters", param="query") from None
    return [(name, value) for name, value in pairs if name not in dropped]


# ---- headers -------------------------------------------------------------------------------------------------------


def forward_request_headers(headers: Iterable[tuple[str, str]], own: Iterable[str | None] = ()) -> dict[str, str]:
    """The caller's headers that are sent upstream, names in lower case: no credentials and no headers of proxies.

    `own`: further names that are dropped, as the header that carries a key on this instance. What a client marks for
    the provider by `x-pass-` goes by its own name, if that name may be sent at all.
    """
    given = [(name.lower().removeprefix(_MARKED_PREFIX), value) for name, value in headers]
    hop_by_hop = {item.strip().lower() for name, value in given if name == "connection" for item in value.split(",")}
    dropped = _DROPPED_REQUEST_HEADERS | {comparable(name) for name in (*hop_by_hop, *own) if name}
    return {
        name: value
        for name, value in given
        if comparable(name) not in dropped
        and not comparable(name).startswith(_DROPPED_REQUEST_PREFIXES)
        and may_be_set(name)
        and is_plain(value)
    }


def forward_response_headers(headers: Iterable[tuple[str, str]], secrets: Iterable[str]) -> Pairs:
    """The provider's headers for the caller, without cookies and with our credentials masked."""
    given = [(name.lower(), value) for name, value in headers]
    hop_by_hop = {item.strip().lower() for name, value in given if name == "connection" for item in value.split(",")}
    dropped = _DROPPED_RESPONSE_HEADERS | hop_by_hop
    forwarded = [(name, value) for name, value in given if name not in dropped and is_plain(value)]
    return [
        (name, redacted(value, secrets)) for name, value in forwarded if not name.startswith(_DROPPED_RESPONSE_PREFIXES)
    ]


def redacted(text: str, secrets: Iterable[str]) -> str:
    """A provider's text with our credentials masked."""
    return redacted_bytes(text.encode(errors="replace"), secrets).decode()


def redacted_bytes(body: bytes, secrets: Iterable[str]) -> bytes:
    """The same for bytes."""
    for secret in secrets:
        if len(secret) >= _MIN_SECRET_LENGTH:
            body = body.replace(secret.encode(), b"****").replace(quote(secret, safe="").encode(), b"****")
    return body


def is_plain(value: str) -> bool:
    """Whether a value can be sent in a header."""
    return value.isascii() and value.isprintable()


# ---- models --------------------------------------------------------------------------------------------------------


def requested_models(
    provider: str, segments: tuple[str, ...], headers: Mapping[str, str], body: bytes
) -> tuple[str, ...]:
    """The models that a request names, the path's first. Raises InvalidRequest for a body that cannot be read."""
    if body and headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise InvalidRequest("Compressed bodies cannot be relayed: send it as it is", param="content-encoding")
    found = [*_models_in_path(provider, segments), *_models_in_body(provider, headers.get("content-type", ""), body)]
    return tuple(dict.fromkeys(name[:512] for name in found if name))


def _models_in_path(provider: str, segments: tuple[str, ...]) -> Iterable[str]:
    if provider == "bedrock":
        if any("/" in segment and not segment.startswith("arn:") for segment in segments):
            raise InvalidRequest("The path has an encoded slash that is not part of an ARN", param="path")
        yield from (following for segment, following in pairwise(segments) if segment.lower() == "model")
        return
    # The provider may decode an encoded slash.
    parts = [part for segment in segments for part in segment.split("/")]
    markers = _PATH_MODEL_SEGMENTS.get(provider, ())
    yield from (following.partition(":")[0] for segment, following in pairwise(parts) if segment.lower() in markers)


def _models_in_body(provider: str, content_type: str, body: bytes) -> Iterable[str]:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return [part.text.strip() for part in parse_form(body, content_type).parts if part.base_name.strip() == "model"]
    if kind == "application/x-www-form-urlencoded":
        return [value for name, value in read_query(body, without=()) if name == "model"]
    is_json = kind == "application/json" or kind.endswith("+json")
    if not is_json and body.lstrip(_BEFORE_JSON)[:1] != b"{":
        return []
    try:
        fields = read_fields(body) if body.strip() else {}
        # Some servers ignore case. The usual spelling comes first: it is billed.
        spellings = sorted((name for name in fields if name.lower() == "model"), key=lambda name: name != "model")
        named = [msgspec.json.decode(fields[name]) for name in spellings]
        more = (
            _strings_under(_BEDROCK_MODEL_FIELDS, msgspec.json.decode(body)) if provider == "bedrock" and fields else ()
        )
    except msgspec.ValidationError:
        return []  # JSON, and no object
    except (msgspec.DecodeError, ValueError, RecursionError):
        if is_json or body.lstrip()[:1] != b"{":
            # The provider may read what we cannot: in another encoding it could name any model.
            raise InvalidRequest("The body is not valid JSON in UTF-8", param="request_body") from None
        return []
    return [*(model.removeprefix("models/") for model in named if isinstance(model, str)), *more]


def _strings_under(names: frozenset[str], value: Any) -> Iterator[str]:
    """The strings under one of these names anywhere in a JSON value."""
    for item in value if isinstance(value, list) else ():
        yield from _strings_under(names, item)
    for name, item in value.items() if isinstance(value, dict) else ():
        if name in names and isinstance(item, str):
            yield item
        else:
            yield from _strings_under(names, item)
