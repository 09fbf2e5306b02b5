"""Access tokens of Google service accounts: asked for when needed, kept until shortly before they end.

The token is asked for where the service account's own file says (`token_uri`), with a statement signed by its key.
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
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SECONDS = 3600
# A token is asked for anew this long before its end: a call that starts with it must not outlive it at once.
_MARGIN_SECONDS = 300.0
_MAX_TOKENS = 256

# (address, form) -> (status, body); raises UpstreamError when there is no answer.
Post = Callable[[str, bytes], Awaitable[tuple[int, bytes]]]


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """What a service account's file says, as far as it matters here."""

    email: str
    private_key: str = field(repr=False)
    key_id: str
    token_uri: str
    project: str | None

    def statement(self, now: float) -> str:
        """The signed claim to be this account. Raises ValueError for a key that is none."""
        claims = {
            "iss": self.email,
            "scope": _SCOPE,
            "aud": self.token_uri,
            "iat": int(now),
            "exp": int(now) + _SECONDS,
        }
        headers = {"kid": self.key_id} if self.key_id else None
        try:
            return jwt.encode(claims, self.private_key, algorithm="RS256", headers=headers)
        except (jwt.PyJWTError, ValueError, TypeError):
            raise ValueError("holds no private key that can sign") from None


def read_service_account(credentials: str, *, may_read_files: bool) -> ServiceAccount:
    """The account that a setting holds: the JSON text itself, or the path of its file. Raises ValueError."""
    text = credentials.strip()
    if not text.startswith("{"):
        if not may_read_files:
            raise ValueError("is no service account; send the JSON itself")
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise ValueError("is no file that can be read") from None
    try:
        facts: Any = json.loads(text)
    except ValueError:
        raise ValueError("is not JSON") from None
    names = ("client_email", "private_key", "token_uri")
    if not isinstance(facts, dict) or not all(isinstance(facts.get(name), str) and facts[name] for name in names):
        raise ValueError("is no service account: it needs client_email, private_key and token_uri")
    if urlsplit(facts["token_uri"]).scheme not in ("http", "https"):
        raise ValueError("has a token_uri that is no address")
    return ServiceAccount(
        email=facts["client_email"],
        private_key=facts["private_key"],
        key_id=str(facts.get("private_key_id") or ""),
        token_uri=facts["token_uri"],
        project=str(facts["project_id"]) if facts.get("project_id") else None,
    )


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    fresh_until: float


class VertexTokens:
    """Tokens by service account. Many calls at once ask for one token together."""

    def __init__(
        self,
        post: Post,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._post = post
        self._now = now
        self._tokens: OrderedDict[str, _Token] = OrderedDict()
        self._asking: dict[str, asyncio.Task[_Token]] = {}

    async def token(self, account: ServiceAccount) -> str:
        """A token that lives for some minutes at least. Raises UpstreamError when there is none to be had."""
        name = hashlib.sha256(f"{account.email}\n{account.token_uri}\n{account.private_key}".encode()).hexdigest()
        known = self._tokens.get(name)
        if known is not None and known.fresh_until > self._now():
            return known.text
        task = self._asking.get(name)
        if task is None:
            task = asyncio.create_task(self._ask(account), name="ask for an access token")
            self._asking[name] = task
            task.add_done_callback(lambda done: self._keep(name, done))
        # A caller who leaves must not end what others wait for.
        return (await asyncio.shield(task)).text

    def _keep(self, name: str, task: asyncio.Task[_Token]) -> None:
        self._asking.pop(name, None)
        if task.cancelled() or task.exception() is not None:
            return
        self._tokens[name] = task.result()
        self._tokens.move_to_end(name)
        while len(self._tokens) > _MAX_TOKENS:
            self._tokens.popitem(last=False)

    async def _ask(self, account: ServiceAccount) -> _Token:
        now = self._now()
        try:
            statement = await asyncio.to_thread(account.statement, now)
        except ValueError as problem:
            raise _refused(f"the service account {problem}") from None
        form = urlencode({"grant_type": _GRANT, "assertion": statement}).encode()
        status, body = await self._post(account.token_uri, form)
        try:
            answer: Any = json.loads(body)
            text, seconds = str(answer["access_token"]), float(answer.get("expires_in", _SECONDS))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise _refused(f"the token endpoint answered {status}") from None
        if status != 200 or not text.isascii() or not text.isprintable():
            raise _refused(f"the token endpoint answered {status}")
        return _Token(text, now + max(seconds - _MARGIN_SECONDS, seconds / 2))


def _refused(reason: str) -> UpstreamError:
    return UpstreamError(
        f"No access token for Vertex AI: {reason}",
        status=401,
        type="authentication_error",
        error_class="AuthenticationError",
    )
