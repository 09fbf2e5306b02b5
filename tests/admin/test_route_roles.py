"""Every route of the policy table, called by everyone: who gets in, and how the others are told.

tests/admin/route_roles.txt is written from what clients expect of each role, not from app/auth/policy.py. A `=` line
heads a section: who is admitted, then how the others are refused; `*` is everyone who is not named. Each line below is
a route, then who is refused otherwise than its section says. Callers by letter:

N nobody, M the master key, A proxy_admin, V proxy_admin_viewer, O admin of an organization, I internal_user,
W internal_user_viewer, T admin of a team, U member of a team, K a key without a user, L a key for /key/info only.

N is refused with 401 and L with 403 unless a line names them. Admitted is who is answered neither 401 nor 403: the
nonsense that is sent here may still be refused.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.auth.guard import access_of_routes
from app.auth.policy import ROUTES, Access
from tests.admin.everyone import Everyone, everyone
from tests.test_guards_routes import is_error_of_contract

# In pass-through, callers who are no admins may only call models; every other path there is for admins.
_CHAT = "v1/chat/completions"
_MODEL_CALLS = {
    "anthropic": "v1/messages",
    "azure": "openai/deployments/d/chat/completions",
    "azure_ai": "openai/deployments/d/chat/completions",
    "bedrock": "model/m/converse",
    "cohere": "v2/chat",
    "gemini": "v1beta/models/m:generateContent",
    "mistral": _CHAT,
    "openai": _CHAT,
    "openai_passthrough": _CHAT,
    "vertex-ai": "v1/projects/p/locations/l/endpoints/e:predict",
    "vertex_ai": "v1/projects/p/locations/l/endpoints/e:predict",
    "vllm": _CHAT,
}
_CALLS = ("completions", "embeddings")
CALLERS = "NMAVOIWTUKL"
TABLE = Path(__file__).with_name("route_roles.txt")
# A call that is good, since a key's routes are looked at after the body of a call; nonsense for all other routes.
BODY = {"model": "sample", "messages": [{"role": "user", "content": "Hello"}], "prompt": "Hello", "input": "Hello"}


def expected_statuses() -> dict[str, dict[str, int | None]]:
    """Route -> caller -> status of the refusal; None is admitted."""
    statuses: dict[str, dict[str, int | None]] = {}
    admitted, refusals = "", {}
    for line in TABLE.read_text().splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "=":
            admitted, refusals = words[1], _refusals(words[2:])
            continue
        route, own = " ".join(words[:2]), _refusals(words[2:])
        assert route not in statuses, f"{route} is there twice"
        statuses[route] = {
            caller: own.get(caller) or (None if caller in admitted else _refusal(caller, refusals))
            for caller in CALLERS
        }
    return statuses


def _refusals(words: list[str]) -> dict[str, int]:
    pairs = (word.split("=") for word in words)
    return {caller: int(status) for callers, status in pairs for caller in callers}


def _refusal(caller: str, refusals: dict[str, int]) -> int:
    usual = {"N": 401, "L": 403}.get(caller)
    return usual or refusals.get(caller) or refusals["*"]


@pytest.fixture
async def cast(migrated_sqlite_url: str, tmp_path: Path) -> AsyncIterator[Everyone]:
    async with everyone(migrated_sqlite_url, tmp_path / "state") as found:
        yield found


def test_the_table_has_every_route_of_the_policy_and_no_other(cast: Everyone) -> None:
    mounted = {
        f"{method} {rule}"
        for (method, rule), access in access_of_routes(cast.worker.app, cast.worker.services.route_groups).items()
        if isinstance(access, Access)
    }
    assert set(expected_statuses()) == mounted | set(ROUTES)


def path_of(method: str, rule: str) -> str:
    """A path of the rule: in pass-through one that calls a model, or lists them."""
    prefix = rule.split("/")[1]
    if not rule.endswith("/<path:rest>") or prefix not in _MODEL_CALLS:
        return re.sub(r"<[^>]+>", "x", rule)
    return rule.replace("<path:rest>", "v1/models" if method == "GET" else _MODEL_CALLS[prefix])


async def test_everyone_is_admitted_or_refused_as_the_table_says(cast: Everyone) -> None:
    wrong = []
    for route, statuses in expected_statuses().items():
        method, _, rule = route.partition(" ")
        path = path_of(method, rule)
        for letter, expected in statuses.items():
            headers = cast.callers[letter].headers if letter in cast.callers else {}
            body = None if method == "GET" else BODY if path.endswith(_CALLS) else {}
            answer = await cast.worker.http.request(method, path, json=body, headers=headers)
            refusal = answer.status_code if answer.status_code in (401, 403) or expected == answer.status_code else None
            is_broken = answer.status_code >= 500 and answer.status_code != 503
            if is_broken or refusal != expected or (refusal and not is_error_of_contract(answer)):
                wrong.append(
                    f"{letter} {route}: {answer.status_code}, not {expected or 'admitted'}: {answer.text[:160]}"
                )
    assert not wrong, f"{len(wrong)} of the refusals\n" + "\n".join(wrong)
