"""One console, two independent workers, real processes: create, call, see the spend, switch, lose one, get it back."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

import openai
import pytest
from playwright.async_api import Page, expect

from tests.services.ports import free_port
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess

MODEL = {
    "model_name": "chat",
    "litellm_params": {
        "model": "openai/chat",
        "api_key": "none",
        "mock_response": "hello",
        "input_cost_per_token": 0.01,
        "output_cost_per_token": 0.02,
    },
}


class Fleet:
    """A control plane and two workers that know nothing of each other."""

    def __init__(self, start: QuarterdeckFactory) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        config = {"model_list": [MODEL], "general_settings": {"control_plane_url": self.url}}
        self.a = start(config, env={"LITELLM_MASTER_KEY": "sk-master-of-worker-a-0123456789"})
        self.b = start(config, env={"LITELLM_MASTER_KEY": "sk-master-of-worker-b-0123456789"})
        rows = [
            {"worker_id": "a", "name": "Worker A", "url": self.a.url, "environment": "staging"},
            {"worker_id": "b", "name": "Worker B", "url": self.b.url, "environment": "production"},
        ]
        start({"worker_registry": rows}, port=port)

    async def sign_in(self, page: Page, worker_id: str, worker: QuarterdeckProcess) -> None:
        await page.goto(f"{self.url}/ui/login?worker={worker_id}")
        await page.fill("#username", "admin")
        await page.fill("#password", worker.master_key)
        await page.click("button.primary")
        await page.wait_for_url(f"**/ui/workers/{worker_id}/keys")

    async def create_key(self, page: Page, worker_id: str, alias: str) -> str:
        await page.goto(f"{self.url}/ui/workers/{worker_id}/keys/new")
        await page.fill("#key_alias", alias)
        await page.fill("#max_budget", "50")
        await page.get_by_role("button", name="Create key").click()
        return await page.input_value("#secret")


@pytest.fixture
def fleet(quarterdeck_process: QuarterdeckFactory) -> Fleet:
    return Fleet(quarterdeck_process)


async def _within(seconds: float, happens: Callable[[], Any]) -> None:
    deadline = time.monotonic() + seconds
    while not await happens():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.2)


async def _call(worker: QuarterdeckProcess, secret: str) -> str | None:
    async with openai.AsyncOpenAI(base_url=f"{worker.url}/v1", api_key=secret, max_retries=0) as client:
        answer = await client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "hi"}])
    return answer.choices[0].message.content


async def test_a_key_made_in_the_console_works_on_its_worker_only_and_its_spend_shows(page: Page, fleet: Fleet) -> None:
    await fleet.sign_in(page, "a", fleet.a)
    secret = await fleet.create_key(page, "a", "checkout")
    assert await _call(fleet.a, secret) == "hello"
    with pytest.raises(openai.AuthenticationError):
        await _call(fleet.b, secret)
    await page.get_by_role("link", name="I have saved it").click()

    async def spend_shows() -> bool:
        await page.reload()
        return re.search(r"\$0\.[0-9]*[1-9]", await page.inner_text(".meter.big")) is not None

    await _within(5, spend_shows)
    await expect(page.get_by_role("cell", name="Success")).to_be_visible()
    await page.goto(f"{fleet.url}/ui/workers/a/spend?by=key")
    await expect(page.get_by_role("table", name="").first).to_contain_text("checkout")
    await fleet.sign_in(page, "b", fleet.b)
    await expect(page.get_by_role("heading", name="No keys on Worker B")).to_be_visible()


async def test_a_dead_worker_disturbs_nobody_and_comes_back(page: Page, fleet: Fleet) -> None:
    await fleet.sign_in(page, "a", fleet.a)
    await fleet.sign_in(page, "b", fleet.b)
    fleet.a.kill()
    for section in ("keys", "models", "teams", "users", "spend"):
        started = time.monotonic()
        await page.goto(f"{fleet.url}/ui/workers/a/{section}")
        await expect(page.get_by_role("heading", name="Worker A does not answer")).to_be_visible()
        assert time.monotonic() - started < 2
        started = time.monotonic()
        await page.goto(f"{fleet.url}/ui/workers/b/{section}")
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert time.monotonic() - started < 1.5
    await page.goto(f"{fleet.url}/ui/workers")
    await expect(page.locator(".tile").filter(has_text="Worker A")).to_contain_text("Unreachable")
    await expect(page.locator(".tile").filter(has_text="Worker B")).to_contain_text("Healthy")
    fleet.a.start()
    await page.goto(f"{fleet.url}/ui/workers/a/keys")
    await expect(page.get_by_role("heading", name="No keys on Worker A")).to_be_visible()


async def test_an_instance_alone_administers_itself(page: Page, quarterdeck_process: QuarterdeckFactory) -> None:
    alone = quarterdeck_process({"model_list": [MODEL]})
    await page.goto(f"{alone.url}/ui/")
    await page.fill("#username", "admin")
    await page.fill("#password", alone.master_key)
    await page.click("button.primary")
    await expect(page.locator(".tile")).to_contain_text("This worker")
    await page.goto(f"{alone.url}/ui/workers/self/keys/new")
    await page.fill("#key_alias", "own")
    await page.get_by_role("button", name="Create key").click()
    assert await _call(alone, await page.input_value("#secret")) == "hello"
    assert f"curl {alone.url}/v1/chat/completions" in await page.inner_text("#curl")
