"""Where the console's sessions live: in this instance's database, under the hash of their id, encrypted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from ..errors import ServiceUnavailable
from ..models import ConsoleSession
from ..security.credentials import decrypt, encrypt, hash_key
from ..storage.database import DATABASE_AWAY


class ConsoleSessionStore:
    def __init__(self, salt_key: str) -> None:
        self._salt_key = salt_key

    async def load(self, session_id: str) -> dict[str, Any] | None:
        """The data of a live session, or None. Raises 503 while the database is away."""
        try:
            row = await ConsoleSession.get_or_none(session_hash=hash_key(session_id), expires_at__gt=datetime.now(UTC))
        except DATABASE_AWAY as problem:
            raise ServiceUnavailable("The database of this console cannot be reached; try again") from problem
        if row is None:
            return None
        try:
            data: dict[str, Any] = json.loads(decrypt(row.data, self._salt_key, purpose="console sessions"))
        except ValueError:
            # Written under another salt key: worthless now, and so signed out.
            return None
        return data

    async def save(self, session_id: str, data: dict[str, Any], expires_at: datetime) -> None:
        await ConsoleSession.filter(expires_at__lt=datetime.now(UTC)).delete()
        encrypted = encrypt(json.dumps(data), self._salt_key, purpose="console sessions")
        await ConsoleSession.update_or_create(
            defaults={"data": encrypted, "expires_at": expires_at}, session_hash=hash_key(session_id)
        )

    async def delete(self, session_id: str) -> None:
        await ConsoleSession.filter(session_hash=hash_key(session_id)).delete()
