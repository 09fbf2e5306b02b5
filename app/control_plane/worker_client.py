"""Every call that the console makes on a worker, one method each, under the contract's names.

Answers are the contract's JSON with floats as `Decimal`; money is USD. All methods raise WorkerUnreachable,
SessionExpired or WorkerRefused.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import jwt

from .worker_errors import INVALID_ANSWER, WorkerRefused
from .worker_http import TILE_TIMEOUT, WorkerConnection

Row = dict[str, Any]
PAGE_SIZE = 25
MAX_PAGES = 10


@dataclass(frozen=True)
class Credential:
    """What one worker gave us at sign-in. `key` is a session virtual key; it goes to `worker_url` and nowhere else."""

    key: str
    username: str
    user_id: str
    role: str
    expires_at: datetime
    worker_url: str = ""

    @property
    def is_expired(self) -> bool:
        return datetime.now(UTC) >= self.expires_at


class WorkerClient:
    def __init__(self, connection: WorkerConnection, credential: Credential | None = None) -> None:
        self.connection = connection
        self.credential = credential
        self.worker = connection.worker
        self._get = connection.get
        self._post = connection.post

    # Sign-in

    async def login(self, username: str, password: str) -> Credential:
        """Trade a password for a credential: directly at ourselves, by one-time code bound to PKCE elsewhere."""
        proof = {"username": username, "password": password}
        try:
            if self.worker.is_self:
                answer = await self._post("/v2/login", proof)
            else:
                verifier = secrets.token_urlsafe(48)
                digest = hashlib.sha256(verifier.encode()).digest()
                challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
                code = await self._post("/v3/login", {**proof, "code_challenge": challenge})
                answer = await self._post("/v3/login/exchange", {"code": code["code"], "code_verifier": verifier})
            return self._read_token(answer["token"], username)
        except (jwt.InvalidTokenError, *INVALID_ANSWER) as error:
            raise WorkerRefused(self.worker, "It answered the sign-in without a usable session.", status=200) from error

    def _read_token(self, token: str, username: str) -> Credential:
        """Raises jwt.InvalidTokenError or one of INVALID_ANSWER."""
        # The worker signed it with a secret that only it knows, and we just got it from there: nothing to verify.
        claims = jwt.decode(token, options={"verify_signature": False})
        key, role, user_id = claims["key"], claims.get("user_role") or "unknown", claims.get("user_id") or ""
        if not all(isinstance(text, str) for text in (key, role, user_id)):
            raise TypeError("a claim is no text")
        if not key.isascii() or not key.isprintable():
            raise ValueError("no header can carry this key")
        expires_at = datetime.fromtimestamp(claims["exp"], UTC)
        return Credential(key, username, user_id, role, expires_at, self.connection.worker.url)

    async def logout(self) -> None:
        await self._post("/session/logout", total=TILE_TIMEOUT)

    # Health

    async def readiness(self) -> Row:
        """`{"status", "db", "version", …}`; the version is remembered for the page of an unreachable worker."""
        answer: Row = await self._get("/health/readiness", total=TILE_TIMEOUT)
        version = answer.get("version") or answer.get("litellm_version")
        self.connection.health.version = str(version) if version else self.connection.health.version
        return answer

    # Keys

    async def list_keys(self, *, page: int = 1, size: int = PAGE_SIZE, total: float = 5.0, **filters: Any) -> Row:
        """`{"keys": [row], "total_count", "current_page", "total_pages"}`. Filters: search, team_id, status, sort_by,
        sort_order."""
        answer: Row = await self._get(
            "/key/list",
            page=page,
            size=size,
            return_full_object=True,
            include_team_keys=True,
            expand="user",
            total=total,
            **filters,
        )
        return answer

    async def create_key(self, fields: Mapping[str, Any]) -> Row:
        """The new key's row plus `key`, the secret, which no later call can show."""
        answer: Row = await self._post("/key/generate", fields)
        return answer

    async def key_info(self, key_hash: str) -> Row:
        answer: Row = await self._get("/key/info", key=key_hash)
        info: Row = answer["info"]
        return {**info, "token": key_hash}

    async def update_key(self, key_hash: str, fields: Mapping[str, Any]) -> Row:
        answer: Row = await self._post("/key/update", {**fields, "key": key_hash})
        return answer

    async def block_key(self, key_hash: str) -> None:
        await self._post("/key/block", {"key": key_hash})

    async def unblock_key(self, key_hash: str) -> None:
        await self._post("/key/unblock", {"key": key_hash})

    async def delete_key(self, key_hash: str) -> None:
        await self._post("/key/delete", {"keys": [key_hash]})

    # Models

    async def list_models(self) -> list[Row]:
        """All deployments: `{"model_name", "litellm_params", "model_info"}`, secrets removed by the worker."""
        answer = await self._get("/model/info")
        return list(answer.get("data") or [])

    async def create_model(self, fields: Mapping[str, Any]) -> Row:
        answer: Row = await self._post("/model/new", fields)
        return answer

    async def delete_model(self, model_id: str) -> None:
        await self._post("/model/delete", {"id": model_id})

    # Teams and users

    async def list_teams(self) -> list[Row]:
        """All teams; for a role that may not see all of them, its own."""
        mine = (
            self.credential.user_id if self.credential and not self.credential.role.startswith("proxy_admin") else None
        )
        return list(await self._get("/team/list", user_id=mine) or [])

    async def create_team(self, fields: Mapping[str, Any]) -> Row:
        answer: Row = await self._post("/team/new", fields)
        return answer

    async def list_users(self, *, page: int = 1, size: int = PAGE_SIZE, **filters: Any) -> Row:
        """`{"users": [row], "total", "page", "page_size", "total_pages"}`."""
        answer: Row = await self._get("/user/list", page=page, page_size=size, **filters)
        return answer

    async def create_user(self, fields: Mapping[str, Any]) -> Row:
        answer: Row = await self._post("/user/new", {"auto_create_key": False, **fields})
        return answer

    # Money

    async def daily_activity(
        self, *, days: int, api_key: str | None = None, today: date | None = None, total: float = 5.0
    ) -> list[Row]:
        """Days with traffic among the last `days` (UTC, today included): `{"date", "metrics", "breakdown"}`.

        A day may come in several rows when the worker pages within days; their figures add up.
        """
        end = today or datetime.now(UTC).date()
        first, rows = (end - timedelta(days=days - 1)).isoformat(), list[Row]()
        for page in range(1, MAX_PAGES + 1):
            answer = await self._get(
                "/user/daily/activity",
                start_date=first,
                end_date=end.isoformat(),
                page=page,
                page_size=1000,
                api_key=api_key,
                total=total,
            )
            rows += answer.get("results") or []
            if not (answer.get("metadata") or {}).get("has_more"):
                break
        return rows

    async def recent_requests(self, key_hash: str, *, limit: int = 10) -> list[Row]:
        """The newest spend log rows of one key, of today and yesterday (UTC)."""
        end = datetime.now(UTC).date()
        rows = await self._get(
            "/spend/logs",
            api_key=key_hash,
            start_date=(end - timedelta(days=1)).isoformat(),
            end_date=end.isoformat(),
            summarize=False,
            limit=limit,
        )
        newest_first = sorted(rows or [], key=lambda row: str(row.get("startTime")), reverse=True)
        return newest_first[:limit]
