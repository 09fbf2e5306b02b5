"""Access tokens of Google service accounts: requested when needed, cached until shortly before they expire.

A token is requested from the `token_uri` of the service account's file, with an assertion (JWT) signed by its key.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import jwt

from ...errors import UpstreamError

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIFETIME_SECONDS = 3600
# A token is refreshed this long before it expires: it must outlive the start of a call.
_REFRESH_MARGIN_SECONDS = 300.0
_MAX_CACHED = 256

# (address, form) -> (status, body); raises UpstreamError when there is no answer.
Post = Callable[[str, bytes], Awaitable[tuple[int, bytes]]]


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """The fields of a service account's file that are used here."""

    email: str
    private_key: str = field(repr=False)
    key_id: str
    token_uri: str
    project: str | None

    def assertion(self, now: float) -> str:
        """The signed JWT that is exchanged for a token. Raises ValueError for an invalid private key."""
        claims = {
            "iss": self.email,
            "scope": _SCOPE,
            "aud": self.token_uri,
            "iat": int(now),
            "exp": int(now) + _LIFETIME_SECONDS,
        }
        headers = {"kid": self.key_id} if self.key_id else None
        try:
            return jwt.encode(claims, self.private_key, algorithm="RS256", headers=headers)
        except (jwt.PyJWTError, ValueError, TypeError):
            raise ValueError("holds no private key that can sign") from None


def read_service_account(credentials: str, *, may_read_files: bool) -> ServiceAccount:
    """The account of a setting: the JSON text itself, or the path of its file. Raises ValueError."""
    text = credentials.strip()
    if not text.startswith("{"):
        if not may_read_files:
            raise ValueError("is no service account; send the JSON itself")
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise ValueError("is no file that can be read") from None
    try:
        fields: Any = json.loads(text)
    except ValueError:
        raise ValueError("is not JSON") from None
    names = ("client_email", "private_key", "token_uri")
    if not isinstance(fields, dict) or not all(isinstance(fields.get(name), str) and fields[name] for name in names):
        raise ValueError("is no service account: it needs client_email, private_key and token_uri")
    if urlsplit(fields["token_uri"]).scheme not in ("http", "https"):
        raise ValueError("has a token_uri that is no address")
    return ServiceAccount(
        email=fields["client_email"],
        private_key=fields["private_key"],
        key_id=str(fields.get("private_key_id") or ""),
        token_uri=fields["token_uri"],
        project=str(fields["project_id"]) if fields.get("project_id") else None,
    )


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    refresh_at: float


class VertexTokens:
    """Tokens by service account. Concurrent calls share one request for a token."""

    def __init__(
        self,
        post: Post,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._post = post
        self._now = now
        self._tokens: OrderedDict[str, _Token] = OrderedDict()
        self._pending: dict[str, asyncio.Task[_Token]] = {}

    async def token(self, account: ServiceAccount) -> str:
        """A token that is valid for some minutes at least. Raises UpstreamError when none can be obtained."""
        name = hashlib.sha256(f"{account.email}\n{account.token_uri}\n{account.private_key}".encode()).hexdigest()
        cached = self._tokens.get(name)
        if cached is not None and cached.refresh_at > self._now():
            return cached.text
        task = self._pending.get(name)
        if task is None:
            task = asyncio.create_task(self._request(account), name="request an access token")
            self._pending[name] = task
            task.add_done_callback(lambda done: self._store(name, done))
        # A caller that is cancelled must not cancel the request that others wait for.
        return (await asyncio.shield(task)).text

    def _store(self, name: str, task: asyncio.Task[_Token]) -> None:
        self._pending.pop(name, None)
        if task.cancelled() or task.exception() is not None:
            return
        self._tokens[name] = task.result()
        self._tokens.move_to_end(name)
        while len(self._tokens) > _MAX_CACHED:
            self._tokens.popitem(last=False)

    async def _request(self, account: ServiceAccount) -> _Token:
        now = self._now()
        try:
            assertion = await asyncio.to_thread(account.assertion, now)
        except ValueError as problem:
            raise _token_error(f"the service account {problem}") from None
        form = urlencode({"grant_type": _GRANT_TYPE, "assertion": assertion}).encode()
        status, body = await self._post(account.token_uri, form)
        try:
            answer: Any = json.loads(body)
            text, seconds = str(answer["access_token"]), float(answer.get("expires_in", _LIFETIME_SECONDS))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise _token_error(f"the token endpoint answered {status}") from None
        if status != 200 or not text.isascii() or not text.isprintable():
            raise _token_error(f"the token endpoint answered {status}")
        return _Token(text, now + max(seconds - _REFRESH_MARGIN_SECONDS, seconds / 2))


def _token_error(reason: str) -> UpstreamError:
    return UpstreamError(
        f"No access token for Vertex AI: {reason}",
        status=401,
        type="authentication_error",
        error_class="AuthenticationError",
    )
