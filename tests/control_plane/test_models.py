"""The models of one worker: added with prices, deleted, and never with a credential shown again."""

from __future__ import annotations

from .console_app import Console, post, text_of
from .contract_worker import ContractWorker

EU = "/ui/workers/eu"


async def test_models_are_added_with_prices_per_token_and_deleted(console: Console, eu: ContractWorker) -> None:
    client = await console.signed_in("eu")
    fields = {
        "model_name": "smart",
        "model": "openai/gpt-5",
        "api_key": "sk-of-the-provider",
        "input_cost_per_token": "1.25",
    }
    assert (await post(client, f"{EU}/models", **fields)).status_code == 303
    params = {"model": "openai/gpt-5", "api_key": "sk-of-the-provider", "input_cost_per_token": 0.00000125}
    assert eu.bodies("/model/new") == [{"model_name": "smart", "litellm_params": params, "model_info": {}}]
    page = await text_of(client, f"{EU}/models")
    assert f"{EU}/models/id-smart/delete" in page and f"{EU}/models/id-chat-small/delete" not in page
    assert "It is the only one" in await text_of(client, f"{EU}/models/id-smart/delete")
    await post(client, f"{EU}/models/id-smart/delete")
    assert eu.bodies("/model/delete") == [{"id": "id-smart"}]
    assert (await client.get(f"{EU}/models/id-nope/delete")).status_code == 404


async def test_a_providers_key_is_never_shown_again(console: Console, eu: ContractWorker) -> None:
    eu.failures["/model/new"] = (400, {"error": {"message": "Bad model", "type": "x", "param": "model", "code": "400"}})
    client = await console.signed_in("eu")
    response = await post(client, f"{EU}/models", model_name="m", model="zz/zz", api_key="sk-of-the-provider")
    page = await response.get_data(as_text=True)
    assert 'id="model-error"' in page and "Bad model" in page and "sk-of-the-provider" not in page
