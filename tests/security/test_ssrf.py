"""Addresses of teams lead to the public Internet only, over real sockets; those of the instance's admins are free."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

import pytest

from app.deployments.deployment import Deployment, build_deployment
from app.errors import UpstreamError
from app.llm.upstream.client import Upstream
from app.llm.upstream.http_client import HttpClient, PrivateAddress
from app.llm.upstream.http_response import Timeouts
from app.settings import Settings
from app.settings.callbacks import is_allowed
from tests.upstream import ScriptedUpstream

TIMEOUTS = Timeouts(connect=2, total=4)
NAME = "models.of-a-team.example"


class ResolvingLoop(asyncio.SelectorEventLoop):
    """A loop whose resolver answers each question with the next of `answers`, the last of them for ever."""

    answers: list[list[str]]
    questions: int = 0

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> list[Any]:
        assert host == NAME
        answer = self.answers[min(self.questions, len(self.answers) - 1)]
        self.questions += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answer]


def run_with(answers: list[list[str]], test: Coroutine[Any, Any, None]) -> int:
    """How often the name was asked for while the test ran."""
    loop = ResolvingLoop()
    loop.answers = answers
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(asyncio.wait_for(test, 20))
    return loop.questions


def deployment(port: int, *, is_team_made: bool) -> Deployment:
    params = {"model": "openai/m", "api_base": f"http://{NAME}:{port}/v1", "api_key": "sk-of-the-team", "timeout": 0.5}
    return build_deployment("m", params, {"team_id": "t"}, {}, is_stored=True, is_team_made=is_team_made)


async def post(upstream: Upstream, target: Deployment) -> bytes:
    async with await upstream.post(target, "/chat/completions", b'{"model": "m"}', is_stream=False) as answer:
        return await answer.read()


@pytest.mark.parametrize("answer", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"]])
def test_a_team_never_reaches_a_private_address_by_a_name(answer: list[str]) -> None:
    async def test() -> None:
        async with ScriptedUpstream() as internal:
            upstream = Upstream(Settings(master_key="k"))
            # A connection that an admin's model opened to the same place is not used either.
            assert await post(upstream, deployment(internal.port, is_team_made=False))
            with pytest.raises(UpstreamError) as problem:
                await post(upstream, deployment(internal.port, is_team_made=True))
            assert "127.0.0.1" not in problem.value.message
            assert len(internal.requests) == 1
            upstream.close()

    run_with([["127.0.0.1"], answer], test())


def test_a_name_that_answers_differently_the_second_time_is_asked_once() -> None:
    async def test() -> None:
        async with ScriptedUpstream() as internal:
            upstream = Upstream(Settings(master_key="k"))
            with pytest.raises(UpstreamError):
                await post(upstream, deployment(internal.port, is_team_made=True))
            assert internal.connections == 0
            upstream.close()

    # A public address that nothing listens at: the second answer would be this machine.
    assert run_with([["8.8.8.8"], ["127.0.0.1"]], test()) == 1


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]", "１２７.0.0.1", "127。0。0。1"],
)
async def test_no_notation_hides_this_machine(host: str) -> None:
    async with ScriptedUpstream() as internal:
        client = HttpClient(4)
        url = f"http://{host}:{internal.port}/v1/models"
        with pytest.raises(PrivateAddress):
            await client.request("GET", url, {}, None, TIMEOUTS, owner=None, is_public_only=True)
        assert internal.connections == 0
        client.close()


@pytest.mark.parametrize(
    "base", ["http://127.0.0.1/v1", "https://0x7f.1", "https://[fd00:ec2::254]", "https://x.internal"]
)
def test_a_stored_row_of_a_team_with_a_private_address_does_not_serve(base: str) -> None:
    params = {"model": "openai/m", "api_base": base, "api_key": "sk-of-the-team"}
    with pytest.raises(ValueError, match="is not a public address"):
        build_deployment("m", params, {"team_id": "t"}, {}, is_stored=True, is_team_made=True)
    assert build_deployment("m", params, {"team_id": "t"}, {}, is_stored=True).api_base == base


@pytest.mark.parametrize(
    "address",
    [
        "https://other.example",
        "http://logs.example",
        "https://logs.example:8443",
        "https://logs.example@169.254.169.254",
        "https://logs.example\\@169.254.169.254",
        "https://169.254.169.254#@logs.example",
        "https://logs.example.evil.example",
        "https://logs。example",
        "https://2130706433",
    ],
)
def test_a_callback_of_a_team_goes_only_where_the_operator_said(address: str) -> None:
    assert is_allowed("https://logs.example/x", {"https://logs.example"})
    assert not is_allowed(address, {"https://logs.example"})
