"""Providers that say exactly what a test tells them to, byte for byte, and remember what they saw."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Provider:
    """`requests` are heads with their bodies; `left` counts connections that the client ended."""

    url: str = ""
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    left: int = 0

    async def until_left(self, count: int = 1) -> None:
        """Returns once so many connections were ended by the client."""
        async with asyncio.timeout(5):
            while self.left < count:
                await asyncio.sleep(0.005)


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(
    script: Script, *, tls: ssl.SSLContext | None = None, reads_body: bool = True
) -> AsyncIterator[Provider]:
    """A provider that runs the script once per request."""
    provider = Provider()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        provider.connections += 1
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(_length_of(head)) if reads_body else b""
                provider.requests.append(head + body)
                await script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            provider.left += 1
        except asyncio.LimitOverrunError:
            # The rest of a body that this provider does not want.
            while await reader.read(1_000_000):
                pass
            provider.left += 1
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        port = server.sockets[0].getsockname()[1]
        provider.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        yield provider
    finally:
        server.close()


def _length_of(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def saying(*pieces: bytes, ends: bool = False) -> Script:
    """Send these pieces, each on its own; then close if it `ends`, else wait for the next request."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        if ends:
            writer.close()

    return script


def certified(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a provider at 127.0.0.1 presents, and what trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a provider of the tests")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = directory / "provider.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    presents = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    presents.load_cert_chain(pem)
    return presents, ssl.create_default_context(cafile=str(pem))
