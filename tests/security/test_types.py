"""Values of types that nobody meant: a clear refusal from an instance, a page from the console, and never a 500."""

from __future__ import annotations

import base64
import copy
import json
import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from quart import Response

from tests.auth.instance import Instance, serving
from tests.control_plane.console_app import Console, sign_in
from tests.control_plane.contract_worker import ContractWorker

if TYPE_CHECKING:
    from quart.typing import TestClientProtocol  # which pytest would take for a class of tests

HUGE = 10**30
DEEP = b"[" * 200_000 + b"]" * 200_000
DEEP_OBJECTS = b'{"a":' * 200_000 + b"1" + b"}" * 200_000
ODD: list[Any] = [None, True, -1, HUGE, 1e308, "odd", "\ud800", [], ["list"], {}, {"a": {"b": 1}}]
SIGN_IN = {
    "/v2/login": ("username", "password"),
    "/v3/login": ("username", "password", "code_challenge"),
    "/v3/login/exchange": ("code", "code_verifier"),
    "/onboarding/claim_token": ("invitation_link", "user_id", "password"),
}

# ---- an instance -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgres"])
async def instance(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Instance]:
    url = request.getfixturevalue(f"migrated_{request.param}_url")
    limit = {"failed_login_limit": 1_000_000}
    async with serving(url, state_dir=tmp_path, control_plane_url="https://deck.example.com", **limit) as served:
        yield served


async def refused(instance: Instance, path: str, body: bytes) -> None:
    answer = await instance.http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500, (path, body[:100], answer.text[:300])
    assert set(answer.json()) in ({"error"}, {"detail"})


@pytest.mark.parametrize("path", SIGN_IN)
async def test_odd_fields_of_a_sign_in_are_refused(instance: Instance, path: str) -> None:
    for name in SIGN_IN[path]:
        for odd in ODD:
            await refused(instance, path, json.dumps({**dict.fromkeys(SIGN_IN[path], "text"), name: odd}).encode())
        for raw in (b"1" * 5000, b"1e999", b"-0.0", b"NaN", b'"\\u0000"', b'"\xff"', b'"\\udc00\\ud800"'):
            await refused(instance, path, b'{"%s": %s}' % (name.encode(), raw))


@pytest.mark.parametrize("path", SIGN_IN)
async def test_bodies_that_are_no_sign_in_are_refused(instance: Instance, path: str) -> None:
    # Such depth fits into no body without a key; less of it does.
    for body in (DEEP, DEEP_OBJECTS, DEEP[200_000 - 4000 : 200_000 + 4000], DEEP_OBJECTS[:12_000], b"", b"[]", b'"x"'):
        await refused(instance, path, body)


async def test_any_json_at_a_sign_in_is_refused(instance: Instance) -> None:
    chance = random.Random(7)

    def value(depth: int = 0) -> Any:
        kind = chance.randrange(9 if depth < 3 else 7)
        if kind < 7:
            return chance.choice([*ODD, chance.random(), "".join(map(chr, chance.sample(range(0xD800), 4)))])
        inner = [value(depth + 1) for _ in range(chance.randrange(4))]
        return inner if kind == 7 else {str(number): item for number, item in enumerate(inner)}

    for _ in range(100):
        path = chance.choice(list(SIGN_IN))
        await refused(instance, path, json.dumps({name: value() for name in SIGN_IN[path]}).encode())


# ---- the console -----------------------------------------------------------------------------------------------------


@pytest.fixture
def eu() -> ContractWorker:
    return ContractWorker()


@pytest.fixture
async def console(eu: ContractWorker) -> AsyncIterator[Console]:
    made = Console({"eu": eu})
    yield made
    await made.registry.aclose()


def token_of(**claims: Any) -> str:
    tomorrow = int((datetime.now(UTC) + timedelta(days=1)).timestamp())
    good = {"key": "sk-session", "user_id": "alice", "user_role": "proxy_admin", "exp": tomorrow}
    return jwt.encode({**good, **claims}, "s" * 32, algorithm="HS256")


def raw_token(payload: bytes) -> str:
    """A token whose claims no library would write."""
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (b'{"alg":"HS256"}', payload, b"s")]
    return ".".join(parts)


ODD_TOKENS = [
    *(odd for odd in ODD if odd != "\ud800"),
    *(raw_token(b'{"key":"k","user_id":"u","user_role":"r","exp":%s}' % exp) for exp in (b"1" * 31, b"NaN", b"-1e400")),
    raw_token(b'{"key":"k","exp":%s}' % (b"9" * 5000)),
    raw_token(DEEP),
    raw_token(b"[]"),
    *(token_of(key=odd) for odd in (None, 7, ["k"], {"k": 1}, "k\u00e9", "k\nHost: other")),
    *(token_of(user_role=odd) for odd in (7, ["proxy_admin"], {"a": 1})),
    *(token_of(user_id=odd) for odd in (7, ["alice"], {"a": 1})),
]


@pytest.mark.parametrize("number", range(len(ODD_TOKENS)))
async def test_an_odd_session_of_a_worker_is_none(console: Console, eu: ContractWorker, number: int) -> None:
    eu.failures["/v3/login/exchange"] = (200, {"token": ODD_TOKENS[number]})
    response = await sign_in(console.browser(), "eu")
    page = await response.get_data(as_text=True)
    assert response.status_code == 502
    assert "without a usable session" in page or "is not JSON" in page


@pytest.mark.parametrize("path", ["/v3/login", "/v3/login/exchange"])
@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
async def test_any_answer_to_a_sign_in_is_a_page(console: Console, eu: ContractWorker, path: str, status: int) -> None:
    envelopes = [{name: {inner: odd}} for odd in ODD[:5] for name in ("error", "detail") for inner in ("type", "param")]
    locations = [{"detail": [{"loc": odd, "msg": odd}]} for odd in ODD]
    raw = [
        DEEP.decode(),
        DEEP_OBJECTS.decode(),
        "NaN",
        "1" * 5000,
        '{"error": {"message": %s}}' % ("[" * 900 + "]" * 900),
    ]
    for answer in [*raw, *(json.dumps(odd) for odd in [*ODD, *envelopes, *locations])]:
        eu.failures[path] = (status, answer)
        response = await sign_in(console.browser(), "eu")
        assert response.status_code in (401, 429, 502), (answer[:100], response.status_code)


PAGES = [
    "workers/eu/tile",
    *(f"workers/eu/{page}" for page in ("keys", "keys/new", "keys/{key}", "keys/{key}/edit", "keys/{key}/delete")),
    *(f"workers/eu/{page}" for page in ("models", "models/new", "models/id-chat-small/delete")),
    *(f"workers/eu/{page}" for page in ("teams", "teams/new", "users", "users/new", "spend")),
]


def filled(eu: ContractWorker) -> str:
    """A worker with a row of everything; answers the hash of its key."""
    today = datetime.now(UTC).date().isoformat()
    team = {"team_id": "t", "team_alias": "Team", "spend": 1.0, "max_budget": 2.0, "models": ["chat-small"]}
    eu.teams.append({**team, "members_with_roles": [{"user_id": "u", "role": "admin"}], "created_at": today})
    user = {"user_id": "u", "user_email": "u@example.com", "user_role": "internal_user", "spend": 1.0, "key_count": 1}
    eu.users.append({**user, "teams": ["t"], "max_budget": 2.0, "created_at": today})
    key = eu.add_key("alias", team_id="t", user_id="u", spend=3.0, max_budget=2.0, rpm_limit=5, models=["chat-small"])
    eu.add_day(today, {"chat-small": 1.5}, requests=100, failed=50)
    token: str = key["token"]
    eu.logs.append({"request_id": "r", "api_key": token, "startTime": f"{today}T10:00:00", "spend": 0.1, "model": "m"})
    return token


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for name, inner in items:
        yield from places(inner, (*path, name))


def with_odd(answer: Any, place: tuple[Any, ...], odd: Any) -> Any:
    if not place:
        return odd
    changed = copy.deepcopy(answer)
    holder = changed
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = odd
    return changed


async def answers_read_by(client: TestClientProtocol, eu: ContractWorker, address: str) -> dict[str, Any]:
    """Path -> answer of each question that a page asks its worker."""
    read: dict[str, Any] = {}

    async def note(path: str, response: Response) -> None:
        read[path] = json.loads(await response.get_data(as_text=True))

    eu.on_answer = note
    assert (await client.get(address)).status_code == 200, address
    eu.on_answer = None
    return read


@pytest.mark.parametrize("page", PAGES)
async def test_no_page_fails_whatever_a_worker_answers(console: Console, eu: ContractWorker, page: str) -> None:
    address = "/ui/" + page.format(key=filled(eu))
    client = await console.signed_in("eu")
    for path, answer in (await answers_read_by(client, eu, address)).items():
        for place in places(answer):
            for odd in (None, "odd", HUGE, -1, ["list"], {"a": {"b": 1}}):
                eu.failures[path] = (200, json.dumps(with_odd(answer, place, odd)))
                response = await client.get(address)
                assert response.status_code in (200, 404, 502), (path, place, odd, response.status_code)
        for raw in (DEEP.decode(), DEEP_OBJECTS.decode(), "NaN", "1" * 5000):
            eu.failures[path] = (200, raw)
            assert (await client.get(address)).status_code in (200, 502), (path, raw[:10])
        del eu.failures[path]
