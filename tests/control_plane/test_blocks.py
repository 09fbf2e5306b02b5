"""What each page, block and sheet of the console asks its worker for: what it shows, once, and nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from .console_app import Console, post, text_of
from .contract_worker import ContractWorker

if TYPE_CHECKING:  # pytest would take it for a class of tests
    from quart.typing import TestClientProtocol

EU = "/ui/workers/eu"
# What a whole page asks for; and the page's one block, whose element has the section's name, for itself.
PAGES = {
    "keys": ["/key/list", "/team/list"],
    "models": ["/model/info"],
    "teams": ["/team/list"],
    "users": ["/user/list"],
    "spend": ["/user/daily/activity"],
}
BLOCKS = {"keys": ["/key/list"], "users": ["/user/list"], "spend": ["/user/daily/activity"]}
_KEY_PAGE = ["/key/info", "/spend/logs", "/team/list", "/user/daily/activity"]


@pytest.fixture(autouse=True)
def filled(eu: ContractWorker) -> None:
    """Two pages of keys, some of them of a team; one team, one user, one day. All of it is three days old."""
    created = (datetime.now(UTC) - timedelta(days=3, hours=12)).isoformat()
    eu.teams.append({"team_id": "t-1", "team_alias": "Payments", "spend": 1.0, "max_budget": None})
    user = {"user_id": "u-1", "user_email": "ada@acme.example", "spend": 0.0, "max_budget": None, "key_count": 1}
    eu.users.append({**user, "created_at": created})
    for number in range(30):
        eu.add_key(f"batch-{number:02}", created_at=created, team_id=None if number % 3 else "t-1")
    eu.add_day((datetime.now(UTC) - timedelta(days=3)).date().isoformat(), {"chat-small": 1.5})


def _for_block(element: str) -> dict[str, str]:
    return {"HX-Request": "true", "HX-Target": element}


async def _calls(client: TestClientProtocol, worker: ContractWorker, address: str, **headers: str) -> list[str]:
    """The paths that one request of the browser makes the console ask its worker for."""
    worker.seen.clear()
    await text_of(client, address, **headers)
    return sorted(path for _, path, _ in worker.seen)


@pytest.mark.parametrize(
    "address",
    [
        "keys",
        "keys?page=2",
        "keys?sort=spend&order=asc",
        "keys?alias=batch&team=t-1&status=active",
        "keys?alias=nothing-has-this",
        "users",
        "users?page=2",
        "users?email=ada",
        "spend?days=7",
        "spend?by=key",
    ],
)
async def test_a_sort_a_page_or_a_search_makes_the_one_call_of_its_table(
    console: Console, eu: ContractWorker, address: str
) -> None:
    section = address.partition("?")[0]
    calls = await _calls(await console.signed_in("eu"), eu, f"{EU}/{address}", **_for_block(section))
    assert calls == BLOCKS[section] and len(calls) == 1


@pytest.mark.parametrize("section", PAGES)
async def test_whatever_htmx_may_replace_in_a_page_is_answered_alone(console: Console, section: str) -> None:
    client = await console.signed_in("eu")
    targets = set(re.findall(r'hx-target="#([\w-]+)"', await text_of(client, f"{EU}/{section}")))
    assert targets == ({section} if section in BLOCKS else set())
    for target in targets:
        part = await text_of(client, f"{EU}/{section}", **_for_block(target))
        assert re.match(rf'\s*<\w+ [^>]*id="{target}"', part) and "<html" not in part


@pytest.mark.parametrize("section", ["keys", "users"])
async def test_a_table_alone_reads_as_it_does_in_its_page(console: Console, section: str) -> None:
    client = await console.signed_in("eu")
    table = (await text_of(client, f"{EU}/{section}", **_for_block(section))).strip()
    assert "<tbody" in table and table in await text_of(client, f"{EU}/{section}")


@pytest.mark.parametrize("section", PAGES)
async def test_a_whole_page_asks_for_what_it_shows(console: Console, eu: ContractWorker, section: str) -> None:
    assert await _calls(await console.signed_in("eu"), eu, f"{EU}/{section}") == PAGES[section]


async def test_a_page_that_htmx_restores_or_does_not_know_is_a_whole_one(console: Console, eu: ContractWorker) -> None:
    client = await console.signed_in("eu")
    restored = {**_for_block("keys"), "HX-History-Restore-Request": "true"}
    assert await _calls(client, eu, f"{EU}/keys", **restored) == PAGES["keys"]
    assert await _calls(client, eu, f"{EU}/keys", **_for_block("users")) == PAGES["keys"]


@pytest.mark.parametrize(
    ("address", "calls"),
    [
        ("keys/new", ["/key/list", "/model/info", "/team/list", "/user/list"]),
        ("models/new", ["/model/info"]),
        ("models/id-stored/delete", ["/model/info"]),
        ("teams/new", ["/model/info", "/team/list"]),
        ("users/new", ["/user/list"]),
    ],
)
async def test_a_form_asks_for_its_choices_when_it_is_opened_and_for_each_once(
    console: Console, eu: ContractWorker, address: str, calls: list[str]
) -> None:
    eu.add_model("stored", mode="chat", stored=True)
    assert await _calls(await console.signed_in("eu"), eu, f"{EU}/{address}") == calls


@pytest.mark.parametrize(
    ("sheet", "calls"),
    [("", _KEY_PAGE), ("/edit", sorted([*_KEY_PAGE, "/model/info", "/user/list"])), ("/delete", _KEY_PAGE)],
)
async def test_a_key_asks_for_the_choices_of_its_form_only_when_it_is_edited(
    console: Console, eu: ContractWorker, sheet: str, calls: list[str]
) -> None:
    key = next(iter(eu.keys))
    assert await _calls(await console.signed_in("eu"), eu, f"{EU}/keys/{key}{sheet}") == calls


async def test_a_form_that_is_sent_back_has_all_its_choices(console: Console, eu: ContractWorker) -> None:
    client = await console.signed_in("eu")
    for address in (f"{EU}/keys", f"{EU}/keys/{next(iter(eu.keys))}/edit"):
        response = await post(client, address, key_alias="")
        page = await response.get_data(as_text=True)
        assert response.status_code == 422
        assert 'name="models" value="chat-small"' in page and ">ada@acme.example</option>" in page
        assert '<option value="t-1">Payments</option>' in page or '<option value="t-1" selected>Payments' in page


async def test_a_new_keys_secret_comes_with_what_its_page_shows(console: Console, eu: ContractWorker) -> None:
    client = await console.signed_in("eu")
    page = await text_of(client, f"{EU}/keys/new")
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    eu.seen.clear()
    response = await client.post(f"{EU}/keys", form={"csrf_token": token, "key_alias": "made", "team_id": "t-1"})
    assert "<dt>Team</dt><dd>Payments</dd>" in await response.get_data(as_text=True)
    assert sorted(path for _, path, _ in eu.seen) == ["/key/generate", "/key/list", "/model/info", "/team/list"]


async def test_a_row_names_its_team_also_for_a_role_that_may_not_list_teams(
    console: Console, eu: ContractWorker
) -> None:
    eu.failures["/team/list"] = (403, {"detail": {"error": "Only admins list teams"}})
    eu.teams.append({"team_id": "t-nameless", "team_alias": None})
    eu.add_key("of-a-team-without-a-name", team_id="t-nameless")
    client = await console.signed_in("eu")
    for headers in ({}, _for_block("keys")):
        table = await text_of(client, f"{EU}/keys", **headers)
        assert '<span class="nowrap">Payments</span><span class="sub">Team</span>' in table
        assert '<span class="nowrap">t-nameless</span><span class="sub">Team</span>' in table
