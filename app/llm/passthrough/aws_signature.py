"""AWS Signature Version 4: the headers that authenticate a request. Pure; the time is passed in.

For every service but S3: the path is percent-encoded once more before it is signed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNRESERVED = "-._~"


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """Static keys; `session_token` comes with temporary ones."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def signed_headers(
    method: str,
    host: str,
    path: str,
    query: Iterable[tuple[str, str]],
    body: bytes,
    credentials: AwsCredentials,
    *,
    region: str,
    service: str,
    timestamp: datetime,
    headers: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The headers to add to a request, `Authorization` among them.

    `path` as it is sent (percent-encoded), `query` decoded, `host` with its port unless that is the default,
    `timestamp` in UTC, `headers` those that are signed besides Host and the date (names in lower case).
    """
    amz_date = timestamp.strftime("%Y%m%dT%H%M%SZ")
    added = {"x-amz-date": amz_date}
    if credentials.session_token:
        added["x-amz-security-token"] = credentials.session_token
    signed = {**(headers or {}), **added, "host": host}
    names = ";".join(sorted(signed))
    canonical = "\n".join(
        [
            method,
            quote(path or "/", safe=f"/{_UNRESERVED}"),
            _canonical_query(query),
            *(f"{name}:{' '.join(signed[name].split())}" for name in sorted(signed)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    scope = f"{amz_date[:8]}/{region}/{service}/aws4_request"
    text = f"{_ALGORITHM}\n{amz_date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = _signing_key(credentials.secret_access_key, amz_date[:8], region, service)
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"{credentials.access_key_id}/{scope}"
    added["authorization"] = f"{_ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return added


def _canonical_query(query: Iterable[tuple[str, str]]) -> str:
    return "&".join(
        sorted(f"{quote(name, safe=_UNRESERVED)}={quote(value, safe=_UNRESERVED)}" for name, value in query)
    )


def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for scope_part in (day, region, service, "aws4_request"):
        key = hmac.new(key, scope_part.encode(), hashlib.sha256).digest()
    return key
