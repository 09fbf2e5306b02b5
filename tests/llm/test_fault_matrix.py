"""Each fault in a group of two with a fallback: who is asked how often, who rests, who answers, and what the log says.

Both deployments of the group show the fault, so a call asks one, then the other if that may help, then the fallback.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.llm.live_worker import FAST, LiveWorker, content_of, deployment, error_of, payloads
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.tcp_proxy import TcpProxy
from tests.upstream import Fault, Reply, ScriptedUpstream, Step, Stream, Usage

# Answers for whoever has failed: 9 tokens in, 3 out.
SAFE = "gpt-4o"
COST = 9 * 2.5e-6 + 3 * 10e-6


@dataclass(frozen=True)
class Case:
    """One fault: how the provider shows it, the contract's status, whether it is tried again, whether it rests."""

    step: Step | None
    status: int
    is_retried: bool = True
    cools_down_at_once: bool = False
    where: str = "upstream"


CASES = {
    "refused": Case(None, 500, where="nowhere"),
    "TLS error": Case(None, 500, where="unsigned"),
    "reset by the proxy": Case(None, 500, where="proxy"),
    "reset": Case(Fault.reset(), 500),
    "closed": Case(Fault.closed(), 500),
    "not HTTP": Case(Fault.not_http(), 500),
    "slow headers": Case(Reply(delay=2), 408),
    "hang": Case(Fault.hang(), 408),
    "hang after headers": Case(Fault.hang_after_headers(), 408),
    "cut body": Case(Fault.cut_mid_body(), 500),
    "garbage": Case(Fault.garbage(), 500),
    "400": Case(Fault.status(400), 400, is_retried=False),
    "401": Case(Fault.status(401), 401, cools_down_at_once=True),
    "403": Case(Fault.status(403), 403),
    "404": Case(Fault.status(404), 404, is_retried=False, cools_down_at_once=True),
    "408": Case(Fault.status(408), 408),
    "429": Case(Fault.status(429, retry_after=7), 429, cools_down_at_once=True),
    "500": Case(Fault.status(500), 500),
    "503": Case(Fault.status(503), 503),
    "529": Case(Fault.status(529), 500),
}
STREAMED = {
    **{name: case for name, case in CASES.items() if name not in ("cut body", "hang after headers")},
    "hang before the first event": Case(Stream(hang_after=0), 408),
    "cut before the first event": Case(Stream(cut="close", cut_after=0), 500),
    "cut after the role": Case(
        Stream(
            events=['{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}'] * 2, cut="reset", cut_after=1
        ),
        500,
    ),
    "error event": Case(Fault.error_in_stream(after=0), 500),
}
RESTING = [case for case in (*CASES.values(), *STREAMED.values()) if case.cools_down_at_once]
KINDS = [("whole", name) for name in CASES] + [("streamed", name) for name in STREAMED]


def group_of(kind: str, name: str) -> str:
    return f"{kind} {name}"


@pytest.fixture(scope="module")
async def proxy(upstream_port: int) -> AsyncIterator[TcpProxy]:
    """Resets every connection."""
    async with TcpProxy("127.0.0.1", upstream_port) as between:
        between.refuse()
        yield between


@pytest.fixture(scope="module")
async def tls_port() -> AsyncIterator[int]:
    """Speaks TLS with a certificate that nobody signed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with TemporaryDirectory() as directory:
        context.load_cert_chain(self_signed(Path(directory)))
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


def self_signed(directory: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1)).sign(
        key, hashes.SHA256()
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = directory / "both.pem"
    path.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    return path


@pytest.fixture(scope="module")
def addresses(upstream_port: int, refusing_port: int, proxy: TcpProxy, tls_port: int) -> dict[str, str]:
    return {
        "upstream": f"http://127.0.0.1:{upstream_port}/v1",
        "nowhere": f"http://127.0.0.1:{refusing_port}/v1",
        "unsigned": f"https://127.0.0.1:{tls_port}/v1",
        "proxy": f"http://127.0.0.1:{proxy.port}/v1",
    }


@pytest.fixture(scope="module")
def matrix_process(factory: QuarterdeckFactory, addresses: dict[str, str]) -> QuarterdeckProcess:
    models: list[dict[str, Any]] = [deployment("safe", addresses["upstream"], f"openai/{SAFE}")]
    for kind, name in KINDS:
        group, case = group_of(kind, name), (CASES if kind == "whole" else STREAMED)[name]
        limits = {"timeout": 0.3, "stream_timeout": 0.3} if case.status == 408 else {}
        models += [
            deployment(
                group,
                addresses[case.where],
                "openai/gpt-4o-mini",
                id=f"{half} {group}",
                extra_body={"half": half},
                **limits,
            )
            for half in ("a", "b")
        ]
    return factory({"model_list": models, "router_settings": {"default_fallbacks": ["safe"]}}, env=FAST)


@pytest.fixture
async def worker(matrix_process: QuarterdeckProcess, http: httpx.AsyncClient) -> LiveWorker:
    return LiveWorker(matrix_process, http)


def asked(upstream: ScriptedUpstream) -> Counter[str]:
    """Who was asked how often: the halves of the group by name, and the fallback."""
    return Counter(request.json.get("half", "safe") for request in upstream.requests)


async def text_of(answer: httpx.Response, kind: str) -> str:
    if kind == "streamed":
        return content_of(payloads(answer.content))
    return str(answer.json()["choices"][0]["message"]["content"])


@pytest.mark.parametrize(("kind", "name"), KINDS)
async def test_a_fault_is_made_good(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, kind: str, name: str
) -> None:
    case, group, is_stream = (CASES if kind == "whole" else STREAMED)[name], group_of(kind, name), kind == "streamed"
    if case.step is not None:
        upstream.on_model("gpt-4o-mini", case.step)
    upstream.on_model(SAFE, Stream(("safe",), usage=Usage(9, 3)) if is_stream else Reply("safe", usage=Usage(9, 3)))

    answer = await worker.chat(key, group, num_retries=1, stream=is_stream)

    assert answer.status_code == 200, answer.text
    assert await text_of(answer, kind) == "safe"
    halves = 2 if case.is_retried else 1
    reached = case.where == "upstream"
    assert sum(asked(upstream)[half] for half in "ab") == (halves if reached else 0)
    assert asked(upstream)["safe"] == 1
    assert answer.headers["x-litellm-attempted-retries"] == str(halves - 1)
    assert answer.headers["x-litellm-attempted-fallbacks"] == "1"
    assert answer.headers["x-litellm-model-group"] == "safe"
    row = await worker.spend_row(key)
    assert (row["status"], row["model"], row["spend"]) == ("success", SAFE, pytest.approx(COST))
    attempts = row["metadata"]["failed_attempts"]
    assert [attempt["status"] for attempt in attempts] == [case.status] * halves
    assert len({attempt["model_id"] for attempt in attempts}) == halves
    assert "error_information" not in row["metadata"]
    if case.cools_down_at_once:
        await they_rest(worker, upstream, key, kind, name, halves)


async def they_rest(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, kind: str, name: str, halves: int
) -> None:
    """The next call does not go to those who failed; where all did, it is told when to come back."""
    before = asked(upstream)
    answer = await worker.chat(key, group_of(kind, name), num_retries=0, disable_fallbacks=True)
    if halves == 1:
        assert (asked(upstream)["a"], asked(upstream)["b"]) == (1, 1)
        return
    assert error_of(answer, 429)["type"] == "all_deployments_in_cooldown"
    assert int(answer.headers["retry-after"]) == (7 if name == "429" else 5)
    assert asked(upstream) == before


@pytest.mark.parametrize(
    ("kind", "name"), [one for one in KINDS if STREAMED.get(one[1], CASES.get(one[1])) not in RESTING]
)
async def test_without_a_fallback_the_fault_is_the_answer(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, kind: str, name: str
) -> None:
    case, group, is_stream = (CASES if kind == "whole" else STREAMED)[name], group_of(kind, name), kind == "streamed"
    if case.step is not None:
        upstream.on_model("gpt-4o-mini", case.step)
    answer = await worker.chat(key, group, num_retries=0, disable_fallbacks=True, stream=is_stream)
    error_of(answer, case.status)
    assert answer.headers["x-litellm-attempted-fallbacks"] == "0"
    row = await worker.spend_row(key)
    assert (row["status"], row["spend"], row["total_tokens"]) == ("failure", 0, 0)
    assert row["metadata"]["error_information"]["error_code"] == str(case.status)
    assert [attempt["status"] for attempt in row["metadata"]["failed_attempts"]] == [case.status]
