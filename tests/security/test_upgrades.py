"""No connection leaves HTTP/1.1: neither to HTTP/2 in clear text, past the rules of a proxy, nor to a WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.conftest import MASTER_KEY
from tests.llm.live_worker import FAST
from tests.security.served import SERVERS, RawAnswer, connected, read_answer
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.services.run_directory import RunDirectory

WEBSOCKET = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]
H2C = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"]


@pytest.fixture(scope="module", params=[*SERVERS, "hypercorn, two processes"])
def served(
    request: pytest.FixtureRequest, run_directory: RunDirectory, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[QuarterdeckProcess]:
    arguments = ["--workers", "2"] if "two" in request.param else ["--server", request.param]
    factory = QuarterdeckFactory(run_directory, tmp_path_factory.mktemp("upgrades"), MASTER_KEY)
    try:
        yield factory({}, env=FAST, arguments=arguments)
    finally:
        factory.close()


async def ask(served: QuarterdeckProcess, path: str, *lines: str, method: str = "GET", key: str = "") -> RawAnswer:
    head = [f"{method} {path} HTTP/1.1", "Host: worker", *lines]
    head += [f"Authorization: Bearer {key}"] if key else []
    async with connected(served.port) as (reader, writer), asyncio.timeout(10):
        writer.write("\r\n".join([*head, "", ""]).encode())
        return await read_answer(reader)


@pytest.mark.parametrize("spelling", ["h2c", "H2C", "h2c, websocket", "TLS/1.0, h2c"])
async def test_an_upgrade_to_http2_is_not_followed(served: QuarterdeckProcess, spelling: str) -> None:
    lines = [line.replace("h2c", spelling) for line in H2C]
    expected = 404 if "websocket" in spelling else 200
    assert (await ask(served, "/health/liveliness", *lines)).status == expected
    options = await ask(served, "/health/liveliness", *lines, method="OPTIONS")
    assert options.status not in (0, 101)


async def test_what_follows_an_upgrade_to_http2_is_no_http2(served: QuarterdeckProcess) -> None:
    async with connected(served.port) as (reader, writer), asyncio.timeout(15):
        writer.write("\r\n".join(["GET /health/liveliness HTTP/1.1", "Host: worker", *H2C, "", ""]).encode())
        first = await read_answer(reader)
        assert (first.status, first.headers.get("upgrade")) == (200, None)
        with suppress(ConnectionError):
            writer.write(b"GET /health/liveliness HTTP/1.1\r\nHost: worker\r\n\r\n")
            assert (await read_answer(reader)).status == 200  # the connection goes on in HTTP/1.1


@pytest.mark.parametrize("path", ["/v1/realtime?model=chat", "/v1/models", "/ui/", "/no/such/path"])
@pytest.mark.parametrize("key", ["", MASTER_KEY])
async def test_a_websocket_is_refused_in_http(served: QuarterdeckProcess, path: str, key: str) -> None:
    answer = await ask(served, path, *WEBSOCKET, key=key)
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "WebSocket" in json.dumps(json.loads(answer.body))


async def test_half_a_websocket_handshake_is_a_clean_refusal(served: QuarterdeckProcess) -> None:
    for lines in (WEBSOCKET[:2], WEBSOCKET[1:2], [*WEBSOCKET[:2], "Sec-WebSocket-Version: 99"]):
        assert (await ask(served, "/v1/models", *lines)).status in (400, 404)


async def test_none_of_it_is_an_error_in_the_log(served: QuarterdeckProcess) -> None:
    await ask(served, "/v1/realtime", *WEBSOCKET)
    await ask(served, "/health/liveliness", *H2C)
    log = served.log_text()
    assert "Traceback" not in log and "unexpected error" not in log
