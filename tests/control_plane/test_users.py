"""The users of one worker: listed, made, and refused with an address that is none."""

from __future__ import annotations

from .console_app import Console, post, text_of
from .contract_worker import ContractWorker

EU = "/ui/workers/eu"


async def test_users(console: Console, eu: ContractWorker) -> None:
    client = await console.signed_in("eu")
    fields = {"user_email": "bob@acme.example", "user_role": "internal_user"}
    assert (await post(client, f"{EU}/users", **fields)).status_code == 303
    assert eu.bodies("/user/new") == [{"auto_create_key": False, **fields}]
    assert "bob@acme.example" in await text_of(client, f"{EU}/users")
    page = await (await post(client, f"{EU}/users", **fields)).get_data(as_text=True)
    assert 'id="user_email-error"' in page and "already exists" in page
    page = await (await post(client, f"{EU}/users", user_email="bob")).get_data(as_text=True)
    assert "Enter an e-mail address, for example" in page
