"""A worker process as its clients see it: keys by the management API, calls by HTTP, spend by /spend/logs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from openai import AsyncOpenAI

from tests.services.quarterdeck import QuarterdeckProcess

PROVIDER_KEY = "sk-provider-secret-that-clients-never-see"
MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
SPEND_SECONDS = 5.0  # the promise: spend is visible within this time
FAST = {"PROXY_BATCH_WRITE_AT": "0.1"}
# Headers of a call that wants exactly one attempt in each group.
ONCE = {"x-litellm-num-retries": "0"}


def deployment(name: str, api_base: str, model: str = "openai/gpt-4o-mini", **params: Any) -> dict[str, Any]:
    """One entry of `model_list`."""
    own_id = {"model_info": {"id": params.pop("id")}} if "id" in params else {}
    weight = {"weight": params.pop("weight")} if "weight" in params else {}
    return {
        "model_name": name,
        "litellm_params": {"model": model, "api_base": api_base, "api_key": PROVIDER_KEY, **weight, **params},
        **own_id,
    }


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class LiveWorker:
    """`http` sends no key by itself; `admin` holds the master key."""

    def __init__(self, process: QuarterdeckProcess, http: httpx.AsyncClient) -> None:
        self.process = process
        self.url = process.url
        self.http = http
        self.admin = {"Authorization": f"Bearer {process.master_key}"}

    # ---- management ------------------------------------------------------------------------------------------------

    async def manage(self, path: str, **body: Any) -> dict[str, Any]:
        answer = await self.http.post(f"{self.url}{path}", json=body, headers=self.admin)
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def new_key(self, **body: Any) -> str:
        return str((await self.manage("/key/generate", **body))["key"])

    async def new_admin_key(self) -> str:
        """A key of an admin of the instance."""
        return str((await self.manage("/user/new", user_role="proxy_admin", auto_create_key=True))["key"])

    async def key_info(self, key: str) -> dict[str, Any]:
        answer = await self.http.get(f"{self.url}/key/info", params={"key": key}, headers=self.admin)
        assert answer.status_code == 200, answer.text
        info: dict[str, Any] = answer.json()["info"]
        return info

    async def spend_rows(self, key: str, count: int = 1, seconds: float = SPEND_SECONDS) -> list[dict[str, Any]]:
        """The rows of a key, oldest first, as soon as there are `count`. AssertionError when it takes longer."""
        deadline = time.monotonic() + seconds
        while True:
            answer = await self.http.get(f"{self.url}/spend/logs", params={"api_key": key}, headers=self.admin)
            assert answer.status_code == 200, answer.text
            rows: list[dict[str, Any]] = answer.json()
            if len(rows) >= count or time.monotonic() > deadline:
                assert len(rows) == count, f"{len(rows)} rows instead of {count}: {rows}"
                return rows[::-1]
            await asyncio.sleep(0.05)

    async def spend_row(self, key: str) -> dict[str, Any]:
        (row,) = await self.spend_rows(key)
        return row

    # ---- calls -----------------------------------------------------------------------------------------------------

    async def chat(
        self, key: str | None, model: str = "chat", *, headers: Mapping[str, str] | None = None, **fields: Any
    ) -> httpx.Response:
        sent = {"Authorization": f"Bearer {key}"} if key is not None else {}
        body = {"model": model, "messages": MESSAGES, **fields}
        return await self.http.post(f"{self.url}/v1/chat/completions", json=body, headers={**sent, **(headers or {})})

    async def send(self, key: str | None, body: bytes, path: str = "/v1/chat/completions") -> httpx.Response:
        """A body exactly as written."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        return await self.http.post(f"{self.url}{path}", content=body, headers=headers)

    @asynccontextmanager
    async def stream(self, key: str, model: str = "chat", **fields: Any) -> AsyncIterator[httpx.Response]:
        body = {"model": model, "messages": MESSAGES, "stream": True, **fields}
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{self.url}/v1/chat/completions"
        async with self.http.stream("POST", url, json=body, headers=headers) as answer:
            yield answer

    async def frames(self, key: str, model: str = "chat", **fields: Any) -> list[str]:
        """All payloads of a stream that begins well."""
        async with self.stream(key, model, **fields) as answer:
            assert answer.status_code == 200, await answer.aread()
            return payloads(await answer.aread())

    def sdk(self, key: str) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=20)


def payloads(stream: bytes) -> list[str]:
    """The payloads of a whole stream; AssertionError for bytes that are no well-formed events."""
    *frames, rest = stream.decode().split("\n\n")
    assert rest == "", f"the stream ends inside an event: {rest!r}"
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames), frames
    return [frame.removeprefix("data: ") for frame in frames]


def content_of(frames: list[str]) -> str:
    """The text that a chat stream spelled."""
    chunks = [json.loads(frame) for frame in frames if frame != "[DONE]"]
    choices = [choice for chunk in chunks for choice in chunk.get("choices", [])]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error of an answer in the contract's envelope, and nothing else in it."""
    assert answer.status_code == status, f"{answer.status_code}: {answer.text}"
    body = answer.json()
    assert set(body) == {"error"}, body
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}, error
    assert error["code"] == str(status)
    assert "Traceback" not in answer.text and PROVIDER_KEY not in answer.text and 'File "' not in answer.text
    return error
