"""What a pass-through request says about itself, read with suspicion: its path, its query, its headers, its models.

Pure. Nothing here may let a caller choose the host that a stored credential goes to.
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

Pairs = list[tuple[str, str]]

_MAX_PATH = 4096
_MAX_PARAMETERS = 200
# Shorter values are no credentials, and starring them out would break words.
_MIN_SECRET = 8
# What RFC 3986 lets stand in a segment.
_SEGMENT = "-._~!$&'()*+,;=:@"
# AWS signs what is sent, so nothing may be open to a second reading.
_STRICT_SEGMENT = "-._~"

# Credentials of the caller, hop-by-hop, what our own client says itself, and what only proxies say.
_NOT_SENT_ON = frozenset(
    "authorization x-api-key api-key x-goog-api-key ocp-apim-subscription-key cookie cookie2 proxy-authorization "
    "connection keep-alive te trailer transfer-encoding upgrade proxy-connection expect host content-length "
    "accept-encoding forwarded via x-real-ip remote-addr true-client-ip cf-connecting-ip x-client-ip x-original-url "
    "x-rewrite-url x-http-method-override x-method-override x-http-method origin referer x-goog-user-project "
    "x-goog-iam-authorization-token x-goog-iap-jwt-assertion x-amz-date x-amz-security-token "
    "x-amz-content-sha256".split()
)
_NOT_SENT_ON_PREFIXES = ("x-litellm-", "x-forwarded-", "sec-", "proxy-", "x-quarterdeck-")

# Never relayed: hop-by-hop, cookies, what our own server says, and what would act on this origin in a browser.
_NOT_PASSED_BACK = frozenset(
    "connection keep-alive te trailer transfer-encoding upgrade proxy-authenticate proxy-connection set-cookie "
    "set-cookie2 content-length content-encoding date server alt-svc strict-transport-security clear-site-data "
    "service-worker-allowed public-key-pins content-security-policy content-security-policy-report-only "
    "x-frame-options x-content-type-options nel report-to reporting-endpoints refresh".split()
)
_NOT_PASSED_BACK_PREFIXES = ("access-control-", "proxy-", "x-litellm-")

# Names by which a path leads to a model, as a server that does not look at case would read them.
_PATH_MODELS = {
    "gemini": ("models", "tunedmodels"),
    "vertex_ai": ("models",),
    "azure": ("deployments",),
    "azure_ai": ("deployments",),
}
# Where calls of Bedrock that have no model in their path name theirs, at any depth.
_BEDROCK_MODELS = frozenset({"modelId", "modelArn", "targetModelId"})
# Blanks, marks of byte order, and the zeros of wider encodings: what may stand before the brace of a JSON text.
_BEFORE_JSON = b" \t\r\n\x00\xef\xbb\xbf\xfe\xff"


# ---- path and query ------------------------------------------------------------------------------------------------


def safe_segments(raw: str) -> tuple[str, ...]:
    """The segments of a percent-encoded path, decoded once. Raises InvalidRequest for one that leads elsewhere."""
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
    """Whether a segment is still one however often it is decoded: no dots that climb, no empty part, no backslash."""
    text = segment
    for _ in range(4):
        if "\\" in text or not text.isprintable():
            return False
        if any(part.split(";")[0].strip() in ("", ".", "..") for part in text.split("/")):
            return False
        further = unquote(text)
        if further == text:
            return True
        text = further
    return False


def encoded(segments: Iterable[str], *, is_strict: bool = False) -> str:
    """The path to send: `/`, and each segment with everything encoded that could be misread."""
    safe = _STRICT_SEGMENT if is_strict else _SEGMENT
    return "/" + "/".join(quote(segment, safe=safe) for segment in segments)


def read_query(raw: bytes, *, without: Iterable[str] = ("key", "userProject", "$userProject")) -> Pairs:
    """The parameters of a query without those that may hold the caller's key, or name a project of Google to charge.

    Raises InvalidRequest for too many.
    """
    left_out = set(without)
    try:
        text = raw.decode("ascii", "replace")
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError:
        raise InvalidRequest("The query has too many parameters", param="query") from None
    return [(name, value) for name, value in pairs if name not in left_out]


# ---- headers -------------------------------------------------------------------------------------------------------


def sent_on(headers: Iterable[tuple[str, str]], own: Iterable[str | None] = ()) -> dict[str, str]:
    """The caller's headers that go upstream, names in lower case: nothing that proves who calls, or who relays.

    `own`: further names of this instance's, as the one that may carry a key.
    """
    given = [(name.lower(), value) for name, value in headers]
    hop_by_hop = {item.strip().lower() for name, value in given if name == "connection" for item in value.split(",")}
    left_out = _NOT_SENT_ON | hop_by_hop | {name.lower() for name in own if name}
    return {
        name: value
        for name, value in given
        if name not in left_out and not name.startswith(_NOT_SENT_ON_PREFIXES) and is_plain(value)
    }


def passed_back(headers: Iterable[tuple[str, str]], secrets: Iterable[str]) -> Pairs:
    """The provider's headers for the caller, without cookies, and without credentials that some of them repeat."""
    given = [(name.lower(), value) for name, value in headers]
    hop_by_hop = {item.strip().lower() for name, value in given if name == "connection" for item in value.split(",")}
    left_out = _NOT_PASSED_BACK | hop_by_hop
    kept = [(name, value) for name, value in given if name not in left_out and is_plain(value)]
    return [(name, redacted(value, secrets)) for name, value in kept if not name.startswith(_NOT_PASSED_BACK_PREFIXES)]


def redacted(text: str, secrets: Iterable[str]) -> str:
    """A provider's words without what it was called with."""
    return redacted_bytes(text.encode(errors="replace"), secrets).decode()


def redacted_bytes(body: bytes, secrets: Iterable[str]) -> bytes:
    """The same for bytes."""
    for secret in secrets:
        if len(secret) >= _MIN_SECRET:
            body = body.replace(secret.encode(), b"****").replace(quote(secret, safe="").encode(), b"****")
    return body


def is_plain(value: str) -> bool:
    """Whether a header can carry a value."""
    return value.isascii() and value.isprintable()


# ---- models --------------------------------------------------------------------------------------------------------


def named_models(provider: str, segments: tuple[str, ...], headers: Mapping[str, str], body: bytes) -> tuple[str, ...]:
    """The models that a request names, the path's first. Raises InvalidRequest for a body that hides what it says."""
    if body and headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise InvalidRequest("Compressed bodies cannot be relayed: send it as it is", param="content-encoding")
    found = [*_in_path(provider, segments), *_in_body(provider, headers.get("content-type", ""), body)]
    return tuple(dict.fromkeys(name[:512] for name in found if name))


def _in_path(provider: str, segments: tuple[str, ...]) -> Iterable[str]:
    if provider == "bedrock":
        if any("/" in one and not one.startswith("arn:") for one in segments):
            raise InvalidRequest("The path has an encoded slash that is not part of an ARN", param="path")
        yield from (following for word, following in pairwise(segments) if word.lower() == "model")
        return
    # A slash that the caller encoded may be read as one by the provider.
    parts = [part for segment in segments for part in segment.split("/")]
    words = _PATH_MODELS.get(provider, ())
    yield from (following.partition(":")[0] for word, following in pairwise(parts) if word.lower() in words)


def _in_body(provider: str, content_type: str, body: bytes) -> Iterable[str]:
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
        # Some servers do not look at case. The usual spelling comes first: it is billed.
        spellings = sorted((name for name in fields if name.lower() == "model"), key=lambda name: name != "model")
        named = [msgspec.json.decode(fields[name]) for name in spellings]
        more = _texts_under(_BEDROCK_MODELS, msgspec.json.decode(body)) if provider == "bedrock" and fields else ()
    except msgspec.ValidationError:
        return []  # JSON, and no object
    except (msgspec.DecodeError, ValueError, RecursionError):
        if is_json or body.lstrip()[:1] != b"{":
            # What we cannot read, somebody else may: in another encoding it could name any model.
            raise InvalidRequest("The body is not valid JSON in UTF-8", param="request_body") from None
        return []
    return [*(model.removeprefix("models/") for model in named if isinstance(model, str)), *more]


def _texts_under(names: frozenset[str], value: Any) -> Iterator[str]:
    """The texts that stand under one of these names somewhere in a JSON value."""
    for item in value if isinstance(value, list) else ():
        yield from _texts_under(names, item)
    for name, item in value.items() if isinstance(value, dict) else ():
        if name in names and isinstance(item, str):
            yield item
        else:
            yield from _texts_under(names, item)
