"""Keys through the console: what the person sees, and what the worker is sent."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime, timedelta

import pytest

from .console_app import Console, post, text_of
from .contract_worker import ContractWorker

KEYS = "/ui/workers/eu/keys"


def _sent(worker: ContractWorker, path: str) -> list[object]:
    return [body for _, seen, body in worker.requests if seen == path]


async def test_an_empty_worker_says_what_keys_are_for(console: Console) -> None:
    page = await text_of(await console.signed_in("eu"), KEYS)
    assert "No keys on EU Production" in page and f'href="{KEYS}/new"' in page


async def test_the_list_shows_state_and_money(console: Console, eu: ContractWorker) -> None:
    soon = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    past = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    eu.add_key("over", spend=1049.1, max_budget=1000)
    eu.add_key("near", spend=99.9, max_budget=100, expires=soon)
    eu.add_key("gone", expires=past)
    eu.add_key("shut", blocked=True)
    page = await text_of(await console.signed_in("eu"), KEYS)
    assert "$1,049.10" in page and "of $1,000" in page and "105%" in page and "Over budget" in page
    assert "99%" in page and "expires" in page
    assert "Expired" in page and "Blocked" in page and "no budget" in page


async def test_filter_sort_and_page_are_links_and_reach_the_worker(console: Console, eu: ContractWorker) -> None:
    for number in range(30):
        eu.add_key(f"batch-{number:02}")
    client = await console.signed_in("eu")
    page = await text_of(client, f"{KEYS}?alias=batch&sort=key_alias&order=asc&page=2")
    assert "batch-29" in page and "batch-00" not in page and "26–30 of 30" in page
    query = _sent(eu, "/key/list")[-1]
    assert isinstance(query, dict)
    wanted = {"search": "batch", "sort_by": "key_alias", "sort_order": "asc"}
    assert wanted.items() <= query.items()
    assert "past the end" in await text_of(client, f"{KEYS}?page=9")
    assert "No key matches" in await text_of(client, f"{KEYS}?alias=zzz")


async def test_nonsense_in_the_address_shows_the_plain_list(console: Console, eu: ContractWorker) -> None:
    eu.add_key("one")
    assert "one" in await text_of(await console.signed_in("eu"), f"{KEYS}?page=-1&sort=;drop&order=x&status=zzz")


async def test_htmx_gets_the_table_alone(console: Console, eu: ContractWorker) -> None:
    eu.add_key("one")
    client = await console.signed_in("eu")
    fragment = await text_of(client, KEYS, **{"HX-Request": "true", "HX-Target": "keys"})
    assert fragment.strip().startswith('<section class="panel" id="keys"') and "<html" not in fragment
    restored = {"HX-Request": "true", "HX-Target": "keys", "HX-History-Restore-Request": "true"}
    assert "<html" in await text_of(client, KEYS, **restored)


async def test_creating_shows_the_secret_once_with_a_command_that_works(console: Console, eu: ContractWorker) -> None:
    client = await console.signed_in("eu")
    response = await post(
        client, KEYS, key_alias="checkout", models="chat-small", max_budget="$1,250.50", rpm_limit="60"
    )
    page = await response.get_data(as_text=True)
    assert response.status_code == 200 and response.headers["Cache-Control"] == "no-store"
    secret = re.search(r'id="secret" readonly value="(sk-[\w-]+)"', page)
    assert secret
    assert _sent(eu, "/key/generate") == [
        {"key_alias": "checkout", "models": ["chat-small"], "max_budget": 1250.5, "rpm_limit": 60}
    ]
    command = re.search(r'id="curl"[^>]*>(.*?)</pre>', page, re.S)
    assert command
    arguments = shlex.split(command[1].replace("&#39;", "'").replace("&#34;", '"'))
    assert (
        arguments[:2] == ["curl", "http://eu/v1/chat/completions"] and f"Authorization: Bearer {secret[1]}" in arguments
    )
    for address in (KEYS, f"{KEYS}/{next(iter(eu.keys))}"):
        assert secret[1] not in await text_of(client, address)
    assert secret[1] not in str(console.store.rows)


@pytest.mark.parametrize(
    ("field", "typed", "sentence"),
    [
        ("key_alias", "", "Enter an alias"),
        ("max_budget", "lots", "Enter an amount in USD"),
        ("max_budget", "-1", "Enter an amount in USD"),
        ("max_budget", "NaN", "Enter an amount in USD"),
        ("rpm_limit", "1.5", "Enter a whole number"),
        ("tpm_limit", "²", "Enter a whole number"),
    ],
)
async def test_a_wrong_field_is_said_at_the_field_and_nothing_is_sent(
    console: Console, eu: ContractWorker, field: str, typed: str, sentence: str
) -> None:
    client = await console.signed_in("eu")
    fields = {"key_alias": "typed-alias", "models": "chat-small", field: typed}
    response = await post(client, KEYS, **fields)
    page = await response.get_data(as_text=True)
    assert response.status_code == 422
    assert f'id="{field}-error"' in page and sentence in page
    assert 'value="chat-small" checked' in page and ("typed-alias" in page or field == "key_alias")
    assert not _sent(eu, "/key/generate")


async def test_a_refusal_of_the_worker_is_shown_at_its_field(console: Console, eu: ContractWorker) -> None:
    eu.add_key("taken")
    response = await post(await console.signed_in("eu"), KEYS, key_alias="taken", max_budget="5")
    page = await response.get_data(as_text=True)
    assert response.status_code == 422
    assert 'id="key_alias-error"' in page and "already exists" in page and 'value="5"' in page


@pytest.mark.parametrize(
    "body", [{"detail": "Not today"}, {"detail": [{"loc": ["body", "odd"], "msg": "Not today", "type": "x"}]}]
)
async def test_a_refusal_without_a_field_is_shown_above(console: Console, eu: ContractWorker, body: object) -> None:
    eu.failures["/key/generate"] = (400, body)
    page = await (await post(await console.signed_in("eu"), KEYS, key_alias="x")).get_data(as_text=True)
    assert "EU Production answered 400:" in page and "Not today" in page and "Nothing was changed." in page


async def test_editing_sends_only_what_changed(console: Console, eu: ContractWorker) -> None:
    key = eu.add_key("old", max_budget=10.0, rpm_limit=5, models=["chat-small"], metadata={"keep": 1})
    client = await console.signed_in("eu")
    edit = f"{KEYS}/{key['token']}/edit"
    assert 'value="10"' in await text_of(client, edit)
    fields = {"key_alias": "new", "models": "chat-small", "max_budget": "10.00", "rpm_limit": "", "duration": "keep"}
    response = await post(client, edit, **fields)
    assert (response.status_code, response.headers["Location"]) == (303, f"{KEYS}/{key['token']}")
    assert _sent(eu, "/key/update") == [{"key": key["token"], "key_alias": "new", "rpm_limit": None}]


async def test_a_new_life_and_no_life(console: Console, eu: ContractWorker) -> None:
    key = eu.add_key("k")
    client = await console.signed_in("eu")
    for life in ("30d", ""):
        await post(client, f"{KEYS}/{key['token']}/edit", key_alias="k", duration=life)
    assert [body["duration"] for body in _sent(eu, "/key/update") if isinstance(body, dict)] == ["30d", None]


async def test_block_and_unblock(console: Console, eu: ContractWorker) -> None:
    key = eu.add_key("k")
    client = await console.signed_in("eu")
    await post(client, f"{KEYS}/{key['token']}/block")
    assert eu.keys[key["token"]]["blocked"] is True
    assert "Unblock key" in await text_of(client, f"{KEYS}/{key['token']}")
    await post(client, f"{KEYS}/{key['token']}/unblock")
    assert eu.keys[key["token"]]["blocked"] is False


async def test_deleting_in_production_asks_for_the_alias(console: Console, eu: ContractWorker) -> None:
    key = eu.add_key("checkout")
    client = await console.signed_in("eu")
    delete = f"{KEYS}/{key['token']}/delete"
    assert "Delete checkout?" in await text_of(client, delete) and eu.keys
    response = await post(client, delete, confirm="chekout")
    assert response.status_code == 422 and eu.keys
    response = await post(client, delete, confirm="checkout")
    assert (response.status_code, response.headers["Location"]) == (303, KEYS) and not eu.keys


async def test_deleting_elsewhere_asks_once(console: Console, us: ContractWorker) -> None:
    key = us.add_key("checkout")
    client = await console.signed_in("us")
    delete = f"/ui/workers/us/keys/{key['token']}/delete"
    assert "Type" not in (await text_of(client, delete)).split('role="alertdialog"')[1]
    await post(client, delete, page="/ui/workers/us/keys/new")
    assert not us.keys


async def test_a_key_of_the_other_worker_is_unknown_here(console: Console, us: ContractWorker) -> None:
    key = us.add_key("only-us")
    response = await (await console.signed_in("eu")).get(f"{KEYS}/{key['token']}")
    assert response.status_code == 404
    assert "EU Production does not have this" in await response.get_data(as_text=True)


async def test_names_are_text_and_never_markup(console: Console, eu: ContractWorker) -> None:
    key = eu.add_key('<img src=x onerror=alert(1)>"', spend=1, max_budget=2)
    client = await console.signed_in("eu")
    for address in (KEYS, f"{KEYS}/{key['token']}", f"{KEYS}/{key['token']}/delete"):
        assert "<img" not in await text_of(client, address)
