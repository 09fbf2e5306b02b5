"""Who is signed in, and where: one credential per worker, kept on the server.

The browser holds `qd_session`: a random id, signed, HttpOnly, SameSite=Lax, Secure over https. A forged or unknown
cookie means signed out. The id changes at every sign-in, so an id that an attacker planted is worth nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import wraps
from typing import Any
from urllib.parse import quote

import httpx
from itsdangerous import BadSignature, Signer
from quart import Response, abort, g, request, url_for

from app.services import services

from .registry import Worker
from .worker_client import Credential, WorkerClient
from .worker_errors import WorkerRefused
from .worker_http import WorkerConnection

COOKIE = "qd_session"
_PROCESS_SECRET = secrets.token_bytes(32)

View = Callable[..., Awaitable[Any]]


def signing_key(purpose: str) -> bytes:
    """A key of its own per purpose, the same in every process of this instance."""
    settings = services().settings
    root = settings.salt_key or settings.master_key
    secret = root.encode() if root else _PROCESS_SECRET
    return hmac.new(secret, f"quarterdeck console {purpose}".encode(), hashlib.sha256).digest()


@dataclass
class ConsoleSession:
    """`csrf_seed` outlives the id, so that forms open in other tabs still work after one more sign-in."""

    session_id: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    csrf_seed: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    credentials: dict[str, Credential] = field(default_factory=dict)

    @classmethod
    def restore(cls, session_id: str, data: dict[str, Any]) -> ConsoleSession:
        credentials = {
            worker_id: Credential(**{**row, "expires_at": datetime.fromisoformat(row["expires_at"])})
            for worker_id, row in data["credentials"].items()
        }
        return cls(session_id, data["csrf_seed"], credentials)

    def data(self) -> dict[str, Any]:
        """What the store keeps (encrypted): JSON types only."""
        rows = {
            worker_id: {**asdict(credential), "expires_at": credential.expires_at.isoformat()}
            for worker_id, credential in self.credentials.items()
        }
        return {"csrf_seed": self.csrf_seed, "credentials": rows}

    def credential(self, worker: Worker) -> Credential | None:
        """The live credential of a worker. One of another address is none: an id may be given to another worker."""
        credential = self.credentials.get(worker.worker_id)
        if credential is None or credential.is_expired or credential.worker_url != worker.url:
            return None
        return credential

    @property
    def is_signed_in(self) -> bool:
        return any(not credential.is_expired for credential in self.credentials.values())

    async def remember(self, worker: Worker, credential: Credential) -> None:
        """Keep the credential under a new session id; the old id is gone when this returns."""
        previous, self.session_id = self.session_id, secrets.token_urlsafe(32)
        self.credentials[worker.worker_id] = credential
        await self.save()
        await services().console_sessions.delete(previous)

    async def forget(self, worker: Worker) -> None:
        if self.credentials.pop(worker.worker_id, None):
            await self.save()

    async def save(self) -> None:
        expires_at = datetime.now(UTC) + services().settings.session_duration
        await services().console_sessions.save(self.session_id, self.data(), expires_at)

    async def end(self) -> None:
        self.credentials.clear()
        await services().console_sessions.delete(self.session_id)


def _signer() -> Signer:
    return Signer(signing_key("session cookie"), salt=COOKIE, digest_method=hashlib.sha256)


async def load_session() -> ConsoleSession:
    """The session of the cookie, or a new, empty one that nothing has stored."""
    try:
        session_id = _signer().unsign(request.cookies.get(COOKIE, "")).decode()
    except (BadSignature, UnicodeError):
        return ConsoleSession()
    data = await services().console_sessions.load(session_id)
    return ConsoleSession.restore(session_id, data) if data else ConsoleSession()


def is_https() -> bool:
    base = services().settings.proxy_base_url or ""
    return request.scheme == "https" or base.startswith("https://")


def write_cookie(response: Response, session: ConsoleSession) -> Response:
    response.set_cookie(
        COOKIE,
        _signer().sign(session.session_id).decode(),
        max_age=int(services().settings.session_duration.total_seconds()),
        path="/ui",
        httponly=True,
        samesite="Lax",
        secure=is_https(),
    )
    return response


def clear_cookie(response: Response) -> Response:
    response.delete_cookie(COOKIE, path="/ui", httponly=True, samesite="Lax", secure=is_https())
    return response


def open_client(worker: Worker, credential: Credential | None = None) -> WorkerClient:
    """A client of one registered worker; this instance itself is reached in memory, not over a socket."""
    registry = services().registry
    http = httpx.AsyncClient(transport=services().self_transport) if worker.is_self else registry.http
    return WorkerClient(
        WorkerConnection(
            worker,
            registry.contact(worker),
            http=http,
            key=credential.key if credential else None,
            changed_by=credential.username if credential else None,
        ),
        credential,
    )


def go(location: str) -> Response:
    """Send the browser to `location`, also out of an htmx request, which would follow a redirect invisibly."""
    if request.headers.get("HX-Request"):
        return Response("", status=401, headers={"HX-Redirect": location})
    return Response("", status=303, headers={"Location": location})


def sign_in_address(worker: Worker | None = None) -> str:
    """The login page that comes back to this page. A POST cannot be replayed, so it comes back to its list."""
    here = request.full_path.rstrip("?") if request.method == "GET" else request.path.rsplit("/", 1)[0]
    if request.headers.get("HX-Current-URL"):
        here = "/" + request.headers["HX-Current-URL"].split("://", 1)[-1].split("/", 1)[-1]
    chosen = f"worker={quote(worker.worker_id)}&" if worker else ""
    return f"{url_for('console.login.show_login')}?{chosen}next={quote(here, safe='/')}"


def public(view: View) -> View:
    """No sign-in needed. Read by the guard test that walks the routes."""
    view.access = "public"  # type: ignore[attr-defined]
    return view


def signed_in(view: View) -> View:
    """Signed in at any worker; others go to the login page."""

    @wraps(view)
    async def guarded(**arguments: Any) -> Any:
        if not g.session.is_signed_in:
            return go(sign_in_address())
        return await view(**arguments)

    guarded.access = "console"  # type: ignore[attr-defined]
    return guarded


async def _look_whether_it_answers(worker: Worker) -> None:
    """Nobody can sign in at a worker that is away: raises WorkerUnreachable, so that its page says so."""
    with suppress(WorkerRefused):
        await open_client(worker).readiness()


def requires_worker_session(view: View) -> View:
    """Signed in at the worker of the URL. The view gets a `client` of it in place of `worker_id`."""

    @wraps(view)
    async def guarded(worker_id: str, **arguments: Any) -> Any:
        worker = services().registry.get(worker_id)
        if not g.session.is_signed_in:
            return go(sign_in_address(worker))
        if worker is None:
            abort(404, description="worker")
        g.worker = worker
        credential = g.session.credential(worker)
        if credential is None:
            await _look_whether_it_answers(worker)
            return go(sign_in_address(worker))
        return await view(client=open_client(worker, credential), **arguments)

    guarded.access = "console"  # type: ignore[attr-defined]
    return guarded
