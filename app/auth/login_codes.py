"""One-time login codes: written by /v3/login, taken once by /v3/login/exchange, whichever process answers.

With Redis a code lives there (GETDEL); without it, or when Redis is away, in the database (DELETE … RETURNING).
Both take atomically, so that of any number of exchanges exactly one wins.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from ..models import LoginCode
from ..security.credentials import decrypt, encrypt, hash_key, new_login_code
from ..storage.cache import Cache, CacheAway
from ..storage.database import Database

log = structlog.get_logger(__name__)

LIFETIME_SECONDS = 60


class LoginCodes:
    def __init__(self, cache: Cache, database: Database, salt_key: str) -> None:
        self._cache = cache
        self._database = database
        self._salt_key = salt_key

    async def issue(self, payload: dict[str, Any]) -> str:
        """Keep `payload` for a minute under a fresh code."""
        code = new_login_code()
        encrypted = encrypt(json.dumps(payload), self._salt_key, purpose="login codes")
        if self._cache.is_shared:
            try:
                await self._cache.set(_name(code), encrypted, LIFETIME_SECONDS)
            except CacheAway as problem:
                log.warning("login code goes to the database", reason=type(problem).__name__)
                # Another one: Redis may have kept the first and only answered late, and in two places it is good twice.
                code = new_login_code()
            else:
                return code
        now = datetime.now(UTC)
        await LoginCode.filter(expires_at__lt=now).delete()
        await LoginCode.create(
            code_hash=hash_key(code), payload=encrypted, expires_at=now + timedelta(seconds=LIFETIME_SECONDS)
        )
        return code

    async def take(self, code: str) -> dict[str, Any] | None:
        """The payload, for the first taker within the minute; None for everyone else."""
        encrypted = await self._take_shared(code) or await self._take_stored(code)
        if encrypted is None:
            return None
        try:
            payload: dict[str, Any] = json.loads(decrypt(encrypted, self._salt_key, purpose="login codes"))
        except ValueError:
            return None
        return payload

    async def _take_shared(self, code: str) -> str | None:
        if not self._cache.is_shared:
            return None
        try:
            return await self._cache.take(_name(code))
        except CacheAway as problem:
            log.warning("login code cannot be taken from Redis", reason=type(problem).__name__)
            return None

    async def _take_stored(self, code: str) -> str | None:
        rows = await self._database.fetch(
            "DELETE FROM login_code WHERE code_hash = $1 AND expires_at > $2 RETURNING payload",
            [hash_key(code), datetime.now(UTC)],
        )
        return rows[0]["payload"] if rows else None


def _name(code: str) -> str:
    return f"login_code:{hash_key(code)}"
