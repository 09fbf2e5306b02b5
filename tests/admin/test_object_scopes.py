"""Behind a door that is open to a role, each view still asks whose the object is.

A line is a caller of tests/admin/everyone.py, a method, a path, the fields that are sent, and the good statuses where
they are not the usual ones of the table; `$X` is the key of X.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.admin.everyone import Everyone, everyone
from tests.test_guards_routes import is_error_of_contract

REFUSED = """
I POST /key/update {"key": "$A", "key_alias": "mine"}
I POST /key/update {"key": "$U", "max_budget": 5}
I POST /key/delete {"keys": ["$A"]}
I POST /key/block {"key": "$A"}
I POST /key/unblock {"key": "$A"}
I POST /key/regenerate {"key": "$A"}
I POST /key/$A/regenerate {}
I POST /key/$A/reset_spend {"reset_to": 0}
I GET /key/info {"key": "$A"}
I GET /key/list {"user_id": "A"}
I GET /key/list {"team_id": "crew"}
I POST /key/generate {"user_id": "A"}
I POST /key/generate {"team_id": "crew"} 400
I POST /key/service-account/generate {"team_id": "crew", "key_alias": "robot"}
I POST /key/generate {"permissions": {"get_spend_routes": true}}
I GET /user/info {"user_id": "A"}
I GET /v2/user/info {"user_id": "A"}
I GET /user/daily/activity {"user_id": "A", "start_date": "2026-01-01", "end_date": "2026-01-02"}
I GET /team/info {"team_id": "crew"}
I GET /team/list {"user_id": "A"}
I GET /v2/team/list {"user_id": "A"}
I GET /team/permissions_list {"team_id": "crew"}
I GET /team/crew/callback {}
W GET /team/crew/callback {}
K GET /team/crew/callback {}
U GET /team/crew/callback {}
W GET /team/info {"team_id": "crew"}
W GET /user/info {"user_id": "A"}
W GET /key/info {"key": "$A"}
K GET /team/info {"team_id": "crew"}
K GET /user/info {"user_id": "A"}
K GET /v2/user/info {"user_id": "A"}
K GET /key/info {"key": "$A"}
U POST /team/update {"team_id": "crew", "team_alias": "mine"}
U PATCH /team/crew {"team_alias": "mine"}
U POST /team/member_add {"team_id": "crew", "member": {"user_id": "I", "role": "user"}}
U POST /team/member_update {"team_id": "crew", "user_id": "U", "role": "admin"}
U POST /team/member_delete {"team_id": "crew", "user_id": "T"}
U POST /team/bulk_member_add {"team_id": "crew", "members": [{"user_id": "I", "role": "user"}]}
U POST /team/permissions_update {"team_id": "crew", "team_member_permissions": ["/key/generate"]}
U POST /team/model/add {"team_id": "crew", "models": ["sample"]}
U POST /team/model/delete {"team_id": "crew", "models": ["sample"]}
U POST /team/block {"team_id": "crew"}
U POST /team/unblock {"team_id": "crew"}
U POST /team/crew/member/U/reset_spend {"reset_to": 0}
U POST /team/crew/callback {"callback_name": "langfuse", "callback_vars": {}}
U DELETE /team/crew/callback/langfuse {}
U POST /team/crew/disable_logging {}
U POST /key/update {"key": "$T", "max_budget": 5}
U POST /key/generate {"team_id": "crew", "user_id": "T"}
M POST /team/update {"team_id": "crew", "max_budget": 10} 200
T POST /team/update {"team_id": "crew", "max_budget": 1000}
T POST /team/update {"team_id": "crew", "max_budget": null}
T POST /team/update {"team_id": "acme-team", "team_alias": "mine"}
T POST /team/member_add {"team_id": "acme-team", "member": {"user_id": "T", "role": "admin"}}
T POST /team/block {"team_id": "crew"}
T POST /key/update {"key": "$A", "key_alias": "mine"}
T POST /key/generate {"team_id": "crew", "user_id": "A"} 400
T POST /team/crew/member/U/reset_spend {"reset_to": 0, "team_id": "acme-team"} 200 404
O PATCH /organization/update {"organization_id": "rival", "organization_alias": "mine"}
O POST /organization/member_add {"organization_id": "rival", "member": {"user_id": "O", "role": "org_admin"}}
O POST /organization/member_add {"organization_id": "acme", "member": {"user_id": "I", "role": "internal_user"}}
O PATCH /organization/member_update {"organization_id": "rival", "user_id": "O", "role": "org_admin"}
O DELETE /organization/member_delete {"organization_id": "rival", "user_id": "O"}
O GET /organization/info {"organization_id": "rival"}
O DELETE /organization/delete {"organization_ids": ["acme"]}
O POST /organization/new {"organization_alias": "third"}
O POST /team/new {"team_id": "third", "organization_id": "rival"}
O POST /team/new {"team_id": "third"} 400
O POST /team/update {"team_id": "rival-team", "team_alias": "mine"}
O POST /team/update {"team_id": "acme-team", "organization_id": "rival"}
O POST /team/update {"team_id": "crew", "organization_id": "acme"}
O POST /team/delete {"team_ids": ["rival-team"]}
O POST /team/delete {"team_ids": ["acme-team", "rival-team"]}
O POST /team/member_add {"team_id": "rival-team", "member": {"user_id": "O", "role": "admin"}}
O GET /team/info {"team_id": "rival-team"}
O POST /key/generate {"team_id": "rival-team"} 400
O POST /key/generate {"user_id": "A"}
O POST /key/generate {"organization_id": "rival"}
O POST /key/update {"key": "$A", "key_alias": "mine"}
O GET /key/info {"key": "$A"}
O POST /user/new {"user_id": "new", "organizations": ["rival"]}
O POST /user/new {"user_id": "new", "organizations": ["acme"], "user_role": "proxy_admin"}
O POST /user/new {"user_id": "new", "organizations": ["acme"], "user_role": "proxy_admin_viewer"}
O POST /user/update {"user_id": "A", "user_alias": "mine"}
O POST /user/update {"user_id": "O", "user_role": "proxy_admin"}
O POST /user/update {"user_id": "I", "max_budget": 1000}
O POST /user/delete {"user_ids": ["A"]}
O GET /user/list {"organization_ids": "rival"}
O GET /organization/daily/activity {"organization_ids": "rival", "start_date": "2026-01-01", "end_date": "2026-01-02"}
I POST /model/new {"model_name": "mine", "litellm_params": {"model": "openai/x", "api_key": "k"}}
T POST /model/new {"model_name": "m", "litellm_params": {"model": "openai/x"}, "model_info": {"team_id": "acme-team"}}
U POST /model/new {"model_name": "m", "litellm_params": {"model": "openai/x"}, "model_info": {"team_id": "crew"}}
I POST /model/delete {"id": "configured"} 400
"""  # fixed dates: refused whatever the days are

ALLOWED = """
I POST /key/update {"key": "$I", "key_alias": "my own"}
I GET /key/info {"key": "$I"}
I GET /user/info {"user_id": "I"}
I GET /v2/user/info {"user_id": "I"}
I GET /team/list {"user_id": "I"}
I POST /key/generate {"user_id": "I"}
U GET /team/info {"team_id": "crew"}
U GET /team/crew/members/me {}
T POST /team/update {"team_id": "crew", "team_alias": "Crew"}
T POST /team/member_add {"team_id": "crew", "member": {"user_id": "I", "role": "user"}}
T POST /team/member_delete {"team_id": "crew", "user_id": "I"}
T GET /team/permissions_list {"team_id": "crew"}
T POST /key/generate {"team_id": "crew"}
T GET /team/crew/callback {}
O PATCH /organization/update {"organization_id": "acme", "organization_alias": "Acme"}
O GET /organization/info {"organization_id": "acme"}
O POST /organization/member_add {"organization_id": "acme", "member": {"user_id": "newcomer", "role": "internal_user"}}
O POST /team/new {"team_id": "acme-2", "organization_id": "acme"}
O POST /team/update {"team_id": "acme-2", "team_alias": "Second"}
O POST /team/delete {"team_ids": ["acme-2"]}
O POST /user/new {"user_id": "O2", "organizations": ["acme"], "user_role": "internal_user"}
O POST /user/update {"user_id": "O2", "user_alias": "Second"}
O POST /user/delete {"user_ids": ["O2"]}
O GET /user/list {"organization_ids": "acme"}
V GET /key/info {"key": "$A"}
V GET /user/info {"user_id": "A"}
V GET /team/info {"team_id": "crew"}
V GET /organization/info {"organization_id": "rival"}
"""


@pytest.fixture
async def cast(migrated_sqlite_url: str, tmp_path: Path) -> AsyncIterator[Everyone]:
    async with everyone(migrated_sqlite_url, tmp_path / "state") as everybody:
        yield everybody


async def _wrong(cast: Everyone, table: str, usual: set[int]) -> list[str]:
    """The lines that are answered otherwise than they should be."""
    wrong = []
    for line in table.strip().splitlines():
        call, brace, own = line.rpartition("}")
        answer = await _answer(cast, *(call + brace).split(" ", 3))
        if answer.status_code not in ({int(word) for word in own.split()} or usual):
            wrong.append(f"{line}: {answer.status_code} {answer.text[:160]}")
        elif answer.status_code >= 400 and not is_error_of_contract(answer):
            wrong.append(f"{line}: no shape of the contract: {answer.text[:160]}")
    return wrong


async def _answer(cast: Everyone, letter: str, method: str, path: str, sent: str) -> httpx.Response:
    for name, caller in cast.callers.items():
        path, sent = path.replace(f"${name}", caller.key), sent.replace(f"${name}", caller.key)
    fields: dict[str, Any] = json.loads(sent)
    headers = cast.callers[letter].headers
    if method == "GET":
        return await cast.worker.http.get(path, params=fields, headers=headers)
    return await cast.worker.http.request(method, path, json=fields, headers=headers)


async def test_nobody_touches_what_is_not_theirs(cast: Everyone) -> None:
    wrong = await _wrong(cast, REFUSED, {401, 403})
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong)


async def test_everyone_reaches_what_is_theirs(cast: Everyone) -> None:
    wrong = await _wrong(cast, ALLOWED, {200})
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong)
