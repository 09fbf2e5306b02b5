"""Lists of files and batches: the caller's own rows of a list that the provider returns for the whole account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...auth.principal import Principal
from ...deployments.deployment import Deployment
from ...errors import InvalidRequest
from .accounts import ProviderAccounts

JsonObject = dict[str, Any]

# Pages that are read from the provider for one call, so that it ends in time.
_MAX_PAGES = 20


async def list_own_rows(
    accounts: ProviderAccounts,
    account: Deployment,
    principal: Principal,
    path: str,
    query: dict[str, str],
    *,
    limit: int,
    owner_of: Callable[[JsonObject], str],
    to_client: Callable[[JsonObject, Deployment, str], JsonObject],
) -> JsonObject:
    """Up to `limit` of the caller's rows, page after page of the provider's, as a list of the dialect.

    An admin sees all rows. `owner_of`: the owner's tag of a row; `to_client`: a row as clients see it.
    """
    owner = accounts.owner(principal)

    def is_wanted(row: JsonObject) -> bool:
        return principal.is_admin or owner_of(row) == owner

    own_rows: list[JsonObject] = []
    has_more, query = True, dict(query)
    for _ in range(_MAX_PAGES):
        page = await accounts.request_json(account, "GET", path, list(query.items()))
        data = page.get("data")
        rows = [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
        own_rows += filter(is_wanted, rows)
        has_more = bool(page.get("has_more")) and bool(rows)
        if not has_more or len(own_rows) > limit:
            break
        query["after"] = str(rows[-1].get("id"))
    data = [to_client(row, account, owner_of(row)) for row in own_rows[:limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more or len(own_rows) > limit,
    }


def read_limit(given: str | None, *, default: int, max_limit: int) -> int:
    """The `limit` of a client. Raises InvalidRequest (400)."""
    if not given:
        return default
    if not given.isdigit() or not given.isascii() or not 1 <= int(given[:9]) <= max_limit:
        raise InvalidRequest(f"'limit' must be a whole number from 1 to {max_limit}.", param="limit")
    return int(given)
