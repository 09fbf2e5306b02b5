"""A caller's own rows of a list that a provider keeps for all callers of this gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...auth.principal import Principal
from ...deployments.deployment import Deployment
from ...errors import InvalidRequest
from .accounts import ProviderAccounts

Answered = dict[str, Any]

# So many pages of the provider's are looked at, so that one call ends in time.
_MAX_PAGES = 20


async def listed(
    accounts: ProviderAccounts,
    account: Deployment,
    principal: Principal,
    path: str,
    query: dict[str, str],
    *,
    most: int,
    owner_of: Callable[[Answered], str],
    shown: Callable[[Answered, Deployment, str], Answered],
) -> Answered:
    """Up to `most` of the caller's rows, page after page of the provider's, as a list of the dialect.

    An admin's list is whole. `owner_of`: whose a row is; `shown`: a row as clients see it.
    """
    owner = accounts.owner(principal)

    def is_wanted(row: Answered) -> bool:
        return principal.is_admin or owner_of(row) == owner

    found: list[Answered] = []
    has_more, query = True, dict(query)
    for _ in range(_MAX_PAGES):
        page = await accounts.ask(account, "GET", path, list(query.items()))
        data = page.get("data")
        rows = [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
        found += filter(is_wanted, rows)
        has_more = bool(page.get("has_more")) and bool(rows)
        if not has_more or len(found) > most:
            break
        query["after"] = str(rows[-1].get("id"))
    data = [shown(row, account, owner_of(row)) for row in found[:most]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more or len(found) > most,
    }


def read_limit(given: str | None, *, usual: int, most: int) -> int:
    """How many rows a client wants. Raises InvalidRequest (400)."""
    if not given:
        return usual
    if not given.isdigit() or not given.isascii() or not 1 <= int(given[:9]) <= most:
        raise InvalidRequest(f"'limit' must be a whole number from 1 to {most}.", param="limit")
    return int(given)
