"""One way to write down a change: who, on behalf of whom, what it was before and what it is now."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from quart import request

from ...auth.principal import current_principal
from ...models import AuditLog
from ...security.masking import is_audit_secret, masked

# Table names as the contract spells them, so that tools which read /audit find theirs.
KEYS = "LiteLLM_VerificationToken"
USERS = "LiteLLM_UserTable"
TEAMS = "LiteLLM_TeamTable"
MODELS = "LiteLLM_ProxyModelTable"
ORGANIZATIONS = "LiteLLM_OrganizationTable"
ACCESS_GROUPS = "LiteLLM_AccessGroupTable"
CREDENTIALS = "LiteLLM_CredentialsTable"
TAGS = "LiteLLM_TagTable"
END_USERS = "LiteLLM_EndUserTable"
BUDGETS = "LiteLLM_BudgetTable"
CONFIG = "LiteLLM_Config"

_ON_BEHALF_HEADER = "litellm-changed-by"


def changed_by() -> str | None:
    """Whom the change is for: the header's word, else the caller's user. Others than admins speak for themselves."""
    principal = current_principal()
    named = (request.headers.get(_ON_BEHALF_HEADER) or "").replace("\x00", "").strip()
    return (named[:255] if principal.is_admin else "") or principal.user_id


async def record_change(
    action: str,
    table: str,
    object_id: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Write one audit row; inside the transaction of the change, so that neither is there without the other.

    `action` is created, updated, deleted, blocked or unblocked. Secrets are masked here, whatever is passed.
    """
    await AuditLog.create(
        id=str(uuid.uuid4()),
        changed_by=changed_by(),
        changed_by_api_key=current_principal().key_hash[:64],
        action=action,
        table_name=table,
        object_id=object_id,
        before_value=None if before is None else masked(before, is_secret=is_audit_secret),
        updated_values=None if after is None else masked(after, is_secret=is_audit_secret),
    )
