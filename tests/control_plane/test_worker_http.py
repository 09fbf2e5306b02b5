"""Every way in which a worker can fail becomes one typed error, in time."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from app.control_plane.registry import Worker, WorkerRegistry
from app.control_plane.worker_client import Credential, WorkerClient
from app.control_plane.worker_errors import SessionExpired, WorkerRefused, WorkerUnreachable, read_refusal
from app.control_plane.worker_http import MAX_ANSWER_BYTES, WorkerConnection
from tests.services.ports import free_port

from .console_app import Network
from .contract_worker import ContractWorker


def _connection(url: str, *, key: str | None = None, transport: Any = None) -> WorkerConnection:
    worker = Worker("w", "W", url)
    registry = WorkerRegistry([worker], own=worker, transport=transport)
    return WorkerConnection(worker, registry.contact(worker), http=registry.http, key=key)


@pytest.fixture
async def listen() -> AsyncIterator[Callable[[bytes], Awaitable[str]]]:
    """Start a TCP server that answers every request with these bytes, or with nothing; gives its URL."""
    servers: list[asyncio.Server] = []

    async def start(answer: bytes) -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            if answer:
                writer.close()
            else:
                await reader.read()

        port = free_port()
        servers.append(await asyncio.start_server(serve, "127.0.0.1", port))
        return f"http://127.0.0.1:{port}"

    yield start
    for server in servers:
        server.close()


async def test_refused_connection() -> None:
    connection = _connection(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(WorkerUnreachable, match="connection refused"):
        await connection.get("/key/list")
    assert connection.contact.failures == 1


async def test_a_hanging_worker_is_given_up_within_two_seconds(listen: Callable[[bytes], Awaitable[str]]) -> None:
    connection = _connection(await listen(b""))
    started = time.perf_counter()
    with pytest.raises(WorkerUnreachable, match="no answer"):
        await connection.get("/key/list")
    assert time.perf_counter() - started < 2


async def test_a_slow_worker_that_is_alive_gets_its_time() -> None:
    worker = ContractWorker()

    class Slow(Network):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == "/health/readiness":
                await asyncio.sleep(2)
            return await super().handle_async_request(request)

    connection = _connection("http://w", transport=Slow({"w": worker}))
    assert (await connection.get("/health/readiness"))["status"] == "healthy"


async def test_a_tile_has_its_own_deadline(listen: Callable[[bytes], Awaitable[str]]) -> None:
    started = time.perf_counter()
    with pytest.raises(WorkerUnreachable, match="within 0"):
        await _connection(await listen(b"")).get("/health/readiness", total=0.3)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n", "follows no redirects"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html", "not JSON"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\n<html", "no reason"),
    ],
)
async def test_odd_answers_are_refusals(listen: Callable[[bytes], Awaitable[str]], answer: bytes, words: str) -> None:
    with pytest.raises(WorkerRefused, match=words):
        await _connection(await listen(answer)).get("/key/list")


async def test_an_endless_answer_is_cut(listen: Callable[[bytes], Awaitable[str]]) -> None:
    size = MAX_ANSWER_BYTES + 1
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode() + b" " * size
    with pytest.raises(WorkerUnreachable):
        await _connection(await listen(answer)).get("/key/list")


async def test_a_broken_answer_is_unreachable(listen: Callable[[bytes], Awaitable[str]]) -> None:
    with pytest.raises(WorkerUnreachable, match="broke before"):
        await _connection(await listen(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{")).get("/key/list")


def _self_signed(directory: Path) -> ssl.SSLContext:
    """A server context whose certificate nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = (
        builder.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    file = directory / "self-signed.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def test_an_unknown_certificate_is_not_trusted(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    port = free_port()
    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=_self_signed(tmp_path))
    with pytest.raises(WorkerUnreachable, match="certificate could not be verified"):
        await _connection(f"https://localhost:{port}").get("/key/list")
    server.close()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": {"message": "m", "type": "t", "param": "key_alias", "code": "400"}}, ("m", "t", {"key_alias": "m"})),
        ({"error": {"message": "m", "type": "t", "param": "None", "code": "400"}}, ("m", "t", {})),
        ({"detail": "d"}, ("d", None, {})),
        ({"detail": {"error": "d"}}, ("d", None, {})),
        (
            {"detail": [{"type": "x", "loc": ["body", "max_budget"], "msg": "must be a number"}]},
            ("max_budget: must be a number", "validation_error", {"max_budget": "must be a number"}),
        ),
        ([], ("It gave no reason.", None, {})),
        ({}, ("It gave no reason.", None, {})),
    ],
)
def test_reads_all_error_envelopes(body: Any, expected: tuple[str, str | None, dict[str, str]]) -> None:
    assert read_refusal(body) == expected


async def _signed_in(worker: ContractWorker) -> tuple[WorkerClient, Credential]:
    transport = Network({"w": worker})
    credential = await WorkerClient(_connection("http://w", transport=transport)).login("alice", "correct horse")
    return WorkerClient(_connection("http://w", key=credential.key, transport=transport)), credential


async def test_login_by_code_is_bound_to_a_challenge() -> None:
    worker = ContractWorker()
    client, credential = await _signed_in(worker)
    assert credential.key in worker.sessions and credential.role == "proxy_admin" and not credential.is_expired
    sent = {path: body for _, path, body in worker.seen}
    assert len(sent["/v3/login"]["code_challenge"]) == 43
    assert sent["/v3/login/exchange"]["code_verifier"] not in str(sent["/v3/login"])
    assert (await client.list_keys())["keys"] == []


async def test_cookies_of_a_worker_are_never_sent_back() -> None:
    worker = ContractWorker()
    client, _ = await _signed_in(worker)
    await client.list_keys()
    assert not list(client.connection._http.cookies.jar)


async def test_a_revoked_session_is_told_from_a_missing_right() -> None:
    worker = ContractWorker()
    client, _ = await _signed_in(worker)
    denial = {"error": {"message": "Only proxy admin can", "type": "auth_error", "param": None, "code": "401"}}
    worker.failures["/team/list"] = (401, denial)
    with pytest.raises(WorkerRefused, match="Only proxy admin"):
        await client.list_teams()
    worker.sessions.clear()
    with pytest.raises(SessionExpired):
        await client.list_keys()
