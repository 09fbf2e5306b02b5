"""`make bench`: one worker on one core, the load and the provider on the other, a fixed count run to completion.

Prints CPU microseconds of the worker process per call (user + system) and writes raw figures to bench/results.json.
Peers and more lanes come with the data plane's own issue; what is printed here was measured in this run.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from .upstream import CHUNKS

ROOT = Path(__file__).parent.parent
PROVIDER_PORT, WORKER_PORT = 4790, 4791
MASTER_KEY = "sk-" + secrets.token_hex(16)
LANES: dict[str, tuple[dict[str, Any], int, int]] = {
    # name: (body, calls, at the same time)
    "small": ({"messages": [{"role": "user", "content": "x" * 900}]}, 3000, 16),
    "large prompt": ({"messages": [{"role": "user", "content": "x" * 300_000}]}, 400, 8),
    "stream": ({"messages": [{"role": "user", "content": "x"}], "stream": True}, 300, 64),
}


def main() -> None:
    servers = ["hypercorn", "granian"] if len(sys.argv) < 2 else sys.argv[1:]
    lanes: dict[str, list[float]] = {}
    for server in servers:
        for window in (1, 2):
            for lane, micros in measure(server).items():
                lanes.setdefault(f"{server}: {lane}", []).append(micros)
                print(f"{server:<10} {lane:<14} window {window}  {micros:8.0f} µs CPU per call")
    results = {"at": datetime.now(UTC).isoformat(), "python": platform.python_version(), "micros_per_call": lanes}
    (ROOT / "bench" / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def measure(server: str) -> dict[str, float]:
    """CPU time per call of each lane. Streams are also per call (50 chunks each)."""
    directory = Path(tempfile.mkdtemp(prefix="quarterdeck-bench-"))
    (directory / "config.yaml").write_text(
        f"model_list:\n  - model_name: bench\n    litellm_params: {{model: openai/m, api_base: 'http://127.0.0.1:{PROVIDER_PORT}',"
        " input_cost_per_token: 0.000001, output_cost_per_token: 0.000002}\n",
        encoding="utf-8",
    )
    provider = subprocess.Popen([sys.executable, "-m", "bench.upstream", str(PROVIDER_PORT)], cwd=ROOT)
    command = [sys.executable, "-m", "app.cli", "--config", str(directory / "config.yaml"), "--port", str(WORKER_PORT)]
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "QUARTERDECK_STATE_DIR": str(directory),
    }
    worker = subprocess.Popen([*command, "--server", server], env=environment, stdout=subprocess.DEVNULL)
    try:
        pin(worker.pid, 0)
        pin(provider.pid, 1)
        pin(os.getpid(), 1)
        return asyncio.run(run_lanes(worker.pid))
    finally:
        for process in (worker, provider):
            process.terminate()
            process.wait(10)
        shutil.rmtree(directory, ignore_errors=True)


def pin(pid: int, core: int) -> None:
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(pid, {core})


async def run_lanes(pid: int) -> dict[str, float]:
    url = f"http://127.0.0.1:{WORKER_PORT}"
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        await ready(client)
        admin = {"Authorization": f"Bearer {MASTER_KEY}"}
        key = (await client.post("/key/generate", json={"max_budget": 100000}, headers=admin)).json()["key"]
    figures: dict[str, float] = {}
    for lane, (body, calls, at_once) in LANES.items():
        await load(key, body, 50, at_once)
        before = cpu_seconds(pid)
        await load(key, body, calls, at_once)
        figures[lane] = (cpu_seconds(pid) - before) / calls * 1e6
    return figures


async def ready(client: httpx.AsyncClient) -> None:
    for _ in range(200):
        try:
            if (await client.get("/health/readiness")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.1)
    raise SystemExit("the worker did not start")


async def load(key: str, body: dict[str, Any], calls: int, at_once: int) -> None:
    """Raw sockets, one per lane of concurrency: the client must not cost more than what it measures."""
    payload = json.dumps({"model": "bench", **body}, separators=(",", ":")).encode()
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n" % (key.encode(), len(payload))
    ) + payload
    left = iter(range(calls))

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", WORKER_PORT, limit=1 << 20)
        for _ in left:
            writer.write(request)
            await writer.drain()
            await read_answer(reader)
        writer.close()

    await asyncio.gather(*(one_connection() for _ in range(at_once)))


async def read_answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise SystemExit(f"a call failed: {head[:200]!r}")
    if b"content-length:" in head:
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        return
    chunks = 0
    while size := int(await reader.readline(), 16):
        chunks += (await reader.readexactly(size + 2)).count(b"data: ")
    await reader.readline()
    if chunks < CHUNKS:
        raise SystemExit("a stream was cut")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its children, which is where granian works."""
    total = 0.0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(") ", 1)[1].split()
        except OSError:
            continue
        if int(entry.name) == pid or int(fields[1]) == pid:
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"done in {time.monotonic() - started:.0f} s")
