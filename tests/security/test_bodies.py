"""Bodies before identity: who is not known yet, or is refused, cannot make an instance hold what they send."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
from quart import Quart, request

from app.web.request_body import (
    CONSOLE_BODY_BYTES,
    PUBLIC_BODY_BYTES,
    AdmittedHTTPConnection,
    DrainingRequest,
    admit_body,
)
from tests.conftest import MASTER_KEY
from tests.llm.live_worker import FAST
from tests.security.served import SERVERS, RawAnswer, connected, peak_mb, read_answer, reset_peak
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.services.run_directory import RunDirectory

MB = 1024 * 1024
CHUNK = b"%x\r\n" % (256 * 1024) + b"x" * (256 * 1024) + b"\r\n"
WITHOUT_KEY = ["/v2/login", "/v3/login", "/v3/login/exchange", "/login", "/onboarding/claim_token"]
UPLOADS = ["/v1/files", "/v1/audio/transcriptions", "/v1/images/edits", "/openai/v1/files", "/own/upload"]
CONSOLE = ["/ui/login", "/ui/theme", "/ui/logout"]
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(scope="module", params=SERVERS)
def served(
    request: pytest.FixtureRequest, run_directory: RunDirectory, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[QuarterdeckProcess]:
    general = {
        "control_plane_url": "https://deck.example.com",
        "pass_through_endpoints": [{"path": "/own", "target": "http://127.0.0.1:9/", "include_subpath": True}],
    }
    factory = QuarterdeckFactory(run_directory, tmp_path_factory.mktemp("bodies"), MASTER_KEY)
    try:
        yield factory({"general_settings": general}, env=FAST, arguments=["--server", request.param])
    finally:
        factory.close()


async def send(served: QuarterdeckProcess, path: str, size: int, *lines: str) -> RawAnswer:
    """The answer to a POST of that many bytes, chunked if a line says so. Stops sending when the answer is there."""
    is_chunked = CHUNKED in lines
    kind = "application/x-www-form-urlencoded" if path == "/login" or path in CONSOLE else "application/json"
    head = [f"POST {path} HTTP/1.1", "Host: worker", f"Content-Type: {kind}", *lines]
    head += [] if is_chunked else [f"Content-Length: {size}"]
    async with connected(served.port) as (reader, writer):
        writer.write("\r\n".join([*head, "", ""]).encode())
        answer = asyncio.create_task(read_answer(reader))
        with suppress(ConnectionError):
            for _ in range(max(size // (256 * 1024), 1)):
                if answer.done():
                    break
                writer.write(CHUNK if is_chunked else b"x" * min(size, 256 * 1024))
                await writer.drain()
            if is_chunked:
                writer.write(b"0\r\n\r\n")
        async with asyncio.timeout(30):
            return await answer


@pytest.mark.parametrize("framing", ["Accept: */*", CHUNKED])
@pytest.mark.parametrize(
    ("paths", "status"), [(WITHOUT_KEY, 413), (UPLOADS, 401), (CONSOLE, 413), (["/no/such/route"], 404)]
)
async def test_four_large_bodies_at_each_route_are_not_held(
    served: QuarterdeckProcess, paths: list[str], status: int, framing: str
) -> None:
    await asyncio.gather(*(send(served, path, 1000) for path in paths))  # what is loaded by the first request is there
    reset_peak(served)
    before = peak_mb(served)
    for path in paths:
        size = 60 * MB if path == "/v2/login" else 15 * MB
        answers = await asyncio.gather(*(send(served, path, size, framing) for _ in range(4)))
        assert {answer.status for answer in answers} == {status}, path
    assert peak_mb(served) - before < 25


async def test_an_upload_with_an_unknown_key_is_refused_before_its_body_is_there(served: QuarterdeckProcess) -> None:
    for path in UPLOADS:
        async with connected(served.port) as (reader, writer):
            head = f"POST {path} HTTP/1.1\r\nHost: worker\r\nAuthorization: Bearer sk-unknown\r\nContent-Length: 60\r\n"
            writer.write(f"{head}\r\nonly the beginning".encode())
            async with asyncio.timeout(5):
                assert (await read_answer(reader)).status == 401, path


async def test_a_key_may_send_what_the_instance_accepts(served: QuarterdeckProcess) -> None:
    async with httpx.AsyncClient(base_url=served.url, trust_env=False, timeout=30) as http:
        headers = {"Authorization": f"Bearer {MASTER_KEY}"}
        answer = await http.post("/key/generate", content=b'"' + b"x" * 30 * MB + b'"', headers=headers)
        assert answer.status_code == 422, answer.text


async def test_a_sign_in_fits_into_what_is_read_without_a_key(served: QuarterdeckProcess) -> None:
    async with httpx.AsyncClient(base_url=served.url, trust_env=False) as http:
        proof = {"username": "admin", "password": MASTER_KEY, "padding": "x" * (PUBLIC_BODY_BYTES - 500)}
        assert (await http.post("/v2/login", json=proof)).status_code == 200
        proof["padding"] = "x" * PUBLIC_BODY_BYTES
        refused = await http.post("/v2/login", json=proof)
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "413")


async def test_a_form_of_the_console_may_be_longer(served: QuarterdeckProcess) -> None:
    async with httpx.AsyncClient(base_url=served.url, trust_env=False) as http:
        form = {"username": "admin", "password": MASTER_KEY, "padding": "x" * (CONSOLE_BODY_BYTES - 500)}
        assert (await http.post("/ui/login", data=form)).status_code == 303


async def test_a_body_that_is_read_in_pieces_is_measured_as_a_whole() -> None:
    app = Quart("pieces", static_folder=None)
    app.request_class = DrainingRequest
    app.asgi_http_class = AdmittedHTTPConnection
    app.config["MAX_CONTENT_LENGTH"] = 100
    read: list[bytes] = []

    @app.post("/")
    async def read_pieces() -> str:
        admit_body(request)
        async for piece in request.body:
            read.append(piece)
        return "whole"

    async with app.test_client().request("/", method="POST") as connection:
        for _ in range(20):
            await connection.send(b"x" * 10)
            await asyncio.sleep(0)
        await connection.send_complete()
    response = await connection.as_response()
    assert (response.status_code, sum(map(len, read)) <= 100) == (413, True)
