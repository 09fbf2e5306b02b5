"""What one finished call leaves in the journal, and whose totals it adds to."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from .scopes import ScopeName, member_id

# A call may name any number of tags; a tag that is longer than its column is cut.
_MAX_TAGS = 50
_TAG_LENGTH = 255


class SpendWindow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A ceiling beside an entity's own budget that counts this call: whose, for which model ("" is all), since when."""

    kind: str
    id: str
    model: str
    period: str
    starts_at: datetime


class SpendEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One finished call, as the journal keeps it. Times are UTC, `cost` is USD, `key_hash` is never the key.

    It holds no cycles: the collector need not look at the thousands that wait to be written.
    """

    request_id: str
    call_type: str
    endpoint: str
    start_time: datetime
    end_time: datetime
    first_chunk_time: datetime | None = None
    cost: Decimal = Decimal(0)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    key_hash: str = ""
    user_id: str | None = None
    team_id: str | None = None
    organization_id: str | None = None
    is_session: bool = False
    model: str = ""
    model_id: str = ""
    model_group: str = ""
    provider: str = ""
    api_base: str | None = None
    end_user: str = ""
    session_id: str | None = None
    call_id: str | None = None
    ip_address: str | None = None
    is_cache_hit: bool = False
    cache_key: str | None = None
    tags: list[str] = []
    access_groups: list[str] = []
    windows: list[SpendWindow] = []
    metadata: dict[str, Any] = {}
    status: str = "success"
    # A deployment that a team made and prices: only the team's own totals grow.
    is_team_priced: bool = False

    @property
    def duration_ms(self) -> int:
        return max(0, int((self.end_time - self.start_time).total_seconds() * 1000))

    def scopes(self) -> Iterable[ScopeName]:
        """Whose totals this call adds to, each once."""
        yield "key", self.key_hash
        if self.user_id:
            yield "user", self.user_id
        if self.team_id and not self.is_session:
            yield "team", self.team_id
            if self.user_id:
                yield "member", member_id(self.team_id, self.user_id)
        if self.is_team_priced:
            return
        if self.organization_id:
            yield "organization", self.organization_id
        if self.end_user:
            yield "end_user", self.end_user
        if self.tags:
            for tag in self.distinct_tags():
                yield "tag", tag
        for group in dict.fromkeys(self.access_groups):
            yield "access_group", group

    def distinct_tags(self) -> list[str]:
        """The tags that are counted, in the order of the call."""
        return list(dict.fromkeys(tag[:_TAG_LENGTH] for tag in self.tags if tag))[:_MAX_TAGS]
