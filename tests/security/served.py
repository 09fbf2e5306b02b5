"""One instance per server, spoken to over plain sockets, and what its processes hold in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.services.quarterdeck import QuarterdeckProcess

SERVERS = ["hypercorn", "granian"]


@dataclass(frozen=True)
class RawAnswer:
    """`status` is 0 when the connection broke before one came."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def pids_of(process: QuarterdeckProcess) -> list[int]:
    """The process that was started and those that it started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [process.pid, *map(int, children)]


def reset_peak(process: QuarterdeckProcess) -> None:
    for pid in pids_of(process):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mb(process: QuarterdeckProcess) -> float:
    """The most memory that each process held since `reset_peak`, added up."""
    total = 0
    for pid in pids_of(process):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return total / 1024


@asynccontextmanager
async def connected(
    port: int, address: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection from `address`, which may be any of 127.0.0.0/8."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def read_answer(reader: asyncio.StreamReader) -> RawAnswer:
    """The next answer that has a length, or no body."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return RawAnswer(0)
    status_line, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return RawAnswer(int(status_line.split()[1]), headers, body)
    return RawAnswer(int(status_line.split()[1]), headers)
