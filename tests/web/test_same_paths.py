"""A slash at the end and slashes twice, over a real socket: the same answer as without, and never a redirect."""

from __future__ import annotations

import socket

import httpx
import pytest

from tests.conftest import MASTER_KEY
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.services.run_directory import RunDirectory

ADMIN = {"Authorization": f"Bearer {MASTER_KEY}"}
MODEL = {"model_name": "m", "litellm_params": {"model": "openai/m", "api_key": "k", "mock_response": "fine"}}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def process(run_directory: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> QuarterdeckProcess:
    factory = QuarterdeckFactory(run_directory, tmp_path_factory.mktemp("worker"), MASTER_KEY)
    return factory({"model_list": [MODEL]}, env={"WEB_CONCURRENCY": "1", "KEEPALIVE_TIMEOUT": "2"})


@pytest.mark.parametrize(
    "path",
    [
        "/metrics/",
        "/health/liveliness/",
        "/health/readiness/",
        "/v1/models/",
        "/ui/login/",
        "//v1//models",
        "/ui/login//",
    ],
)
def test_a_get(process: QuarterdeckProcess, path: str) -> None:
    assert httpx.get(f"{process.url}{path}", headers=ADMIN, trust_env=False).status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions/", "//v1/chat/completions", "/chat//completions/"])
def test_a_call(process: QuarterdeckProcess, path: str) -> None:
    answer = httpx.post(f"{process.url}{path}", json=CHAT, headers=ADMIN, trust_env=False)
    assert answer.json()["choices"][0]["message"]["content"] == "fine"


def test_management(process: QuarterdeckProcess) -> None:
    answer = httpx.post(f"{process.url}/key/generate/", json={}, headers=ADMIN, trust_env=False)
    assert answer.json()["key"].startswith("sk-")


def test_another_spelling_opens_nothing(process: QuarterdeckProcess) -> None:
    for path in ("/key/list/", "//key/list", "/v1/models//"):
        assert httpx.get(f"{process.url}{path}", trust_env=False).status_code == 401
    for path in ("/nowhere/", "/v1/models%2F", "//"):
        assert httpx.get(f"{process.url}{path}", headers=ADMIN, trust_env=False).status_code in (303, 302, 404)


def test_an_idle_connection_is_held_as_long_as_is_said(process: QuarterdeckProcess) -> None:
    with socket.create_connection(("127.0.0.1", int(process.url.rpartition(":")[2])), timeout=20) as client:
        client.sendall(b"GET /health/liveliness HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        client.settimeout(1.0)
        with pytest.raises(TimeoutError):
            while client.recv(4096):
                continue
        client.settimeout(10.0)
        while client.recv(4096):
            continue
