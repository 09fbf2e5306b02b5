"""Answers as they come: in pieces, broken, compressed, endless, or not at all."""

from __future__ import annotations

import asyncio
import gzip
import time
import zlib

import pytest

from app.llm.upstream.http_client import HttpClient
from app.llm.upstream.http_response import HttpResponse, InvalidResponse, Timeouts

from .conftest import Run
from .providers import Script, saying, serving
from .test_http_client import TIMEOUTS, body_of

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def answer_of(script: Script, timeouts: Timeouts = TIMEOUTS, method: str = "POST") -> tuple[HttpResponse, bytes]:
    """A provider's answer and its whole body."""
    async with serving(script) as provider:
        client = HttpClient(4)
        try:
            answer = await client.request(method, provider.url, {}, b"{}", timeouts, owner="o")
            return answer, await body_of(answer)
        finally:
            client.close()


def test_a_piece_can_be_read_before_the_next_one_is_sent(run: Run) -> None:
    async def test() -> None:
        may_finish = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(CHUNKED + b"5\r\nhello\r\n")
            await may_finish.wait()
            writer.write(b"1\r\n!\r\n0\r\n\r\n")

        async with serving(script) as provider:
            client = HttpClient(4)
            answer = await client.request("POST", provider.url, {}, b"{}", TIMEOUTS, owner="o")
            assert (await answer.read(), answer.has_ended) == (b"hello", False)
            may_finish.set()
            assert await body_of(answer) == b"!"
            assert answer.has_ended
            assert await answer.read() == b""
            client.close()

    run(test())


@pytest.mark.parametrize(
    ("pieces", "ends", "body"),
    [
        ([CHUNKED, b"3", b"\r\nab", b"c\r\n0\r\nX-Trailer: t\r\n\r\n"], False, b"abc"),
        ([b"HTTP/1.1 200 OK\r\n", b"Content-Length: 3\r\n\r\na", b"bc"], False, b"abc"),
        ([b"HTTP/1.1 200 OK\r\n\r\na", b"bc"], True, b"abc"),
        (
            [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + CHUNKED, b"0\r\n\r\n"],
            False,
            b"",
        ),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], False, b""),
        ([b"HTTP/1.1 304 Not Modified\r\n\r\n"], False, b""),
    ],
)
def test_every_way_to_say_where_a_body_ends(run: Run, pieces: list[bytes], ends: bool, body: bytes) -> None:
    async def test() -> None:
        answer, said = await answer_of(saying(*pieces, ends=ends))
        assert said == body
        assert answer.has_ended
        assert answer.header("link") is None

    run(test())


def test_the_answer_to_a_head_has_no_body_whatever_it_says(run: Run) -> None:
    async def test() -> None:
        answer, body = await answer_of(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), method="HEAD")
        assert (body, answer.header("content-length")) == (b"", "9")

    run(test())


def test_headers_are_as_they_were_sent(run: Run) -> None:
    async def test() -> None:
        said = b"HTTP/1.1 201 Made\r\nX-One: 1\r\nx-one: 2\r\nCafe: caf\xe9\r\nContent-Length: 0\r\n\r\n"
        answer, _ = await answer_of(saying(said))
        assert answer.status == 201
        assert answer.headers == [("X-One", "1"), ("x-one", "2"), ("Cafe", "café"), ("Content-Length", "0")]
        assert (answer.header("x-one"), answer.header("none")) == ("1", None)

    run(test())


# Without the time of day, which would give the test another name in each process that collects it.
_GZIPPED = gzip.compress(b"hello", mtime=0)


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", _GZIPPED),
        ("deflate", zlib.compress(b"hello")),
        ("X-GZIP", _GZIPPED),
    ],
)
def test_a_body_that_is_compressed_unasked_is_read_all_the_same(run: Run, coding: str, data: bytes) -> None:
    async def test() -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        _, body = await answer_of(saying(head + data[:7], data[7:]))
        assert body == b"hello"

    run(test())


@pytest.mark.parametrize(
    "said",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"<html>not HTTP</html>",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello",
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 300 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
def test_garbage_is_an_error_of_the_connection(run: Run, said: bytes) -> None:
    async def test() -> None:
        with pytest.raises(InvalidResponse):
            await answer_of(saying(said))

    run(test())


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_provider_that_closes_before_it_answers_is_one_too(run: Run, said: bytes) -> None:
    async def test() -> None:
        with pytest.raises(ConnectionResetError):
            await answer_of(saying(said, ends=True))

    run(test())


@pytest.mark.parametrize(
    "head", [CHUNKED + b"3\r\nabc\r\n9\r\nde", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabcde"]
)
def test_what_came_before_a_cut_can_be_read(run: Run, head: bytes) -> None:
    async def test() -> None:
        async with serving(saying(head, ends=True)) as provider:
            answer = await HttpClient(4).request("POST", provider.url, {}, b"{}", TIMEOUTS, owner="o")
            await asyncio.sleep(0.1)
            assert await answer.read() == b"abcde"
            with pytest.raises(ConnectionResetError):
                await answer.read()
            assert not answer.has_ended

    run(test())


@pytest.mark.parametrize("pieces", [[], [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"]])
@pytest.mark.parametrize("timeouts", [Timeouts(connect=5, total=0.2), Timeouts(connect=5, silence=0.2)])
def test_each_timeout_ends_the_wait(run: Run, pieces: list[bytes], timeouts: Timeouts) -> None:
    async def test() -> None:
        async with serving(saying(*pieces)) as provider:
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                await body_of(await HttpClient(4).request("POST", provider.url, {}, b"{}", timeouts, owner="o"))
            assert 0.15 < time.monotonic() - started < 2
            await provider.wait_for_disconnects()

    run(test())


def test_a_provider_that_goes_on_speaking_is_not_silent(run: Run) -> None:
    async def test() -> None:
        pieces = [CHUNKED, *[b"1\r\nx\r\n"] * 30, b"0\r\n\r\n"]
        _, body = await answer_of(saying(*pieces), Timeouts(connect=5, silence=0.15))
        assert body == b"x" * 30

    run(test())


def test_a_provider_whose_words_say_nothing_is_silent(run: Run) -> None:
    async def test() -> None:
        async with serving(saying(CHUNKED, *[b"1\r\n:\r\n"] * 200)) as provider:
            answer = await HttpClient(4).request(
                "POST", provider.url, {}, b"{}", Timeouts(connect=5, silence=0.2), owner="o"
            )
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                while await answer.read():
                    answer.ignore_last_chunk()
            assert 0.15 < time.monotonic() - started < 1.5

    run(test())


def test_time_that_the_reader_takes_is_not_the_provider_s_silence(run: Run) -> None:
    async def test() -> None:
        async with serving(saying(CHUNKED + b"1\r\nx\r\n", b"1\r\ny\r\n0\r\n\r\n")) as provider:
            client = HttpClient(4)
            answer = await client.request("POST", provider.url, {}, b"{}", Timeouts(connect=5, silence=0.1), owner="o")
            await asyncio.sleep(0.4)
            assert await body_of(answer) == b"xy"
            client.close()

    run(test())


def test_a_slow_reader_holds_the_provider_up(run: Run) -> None:
    async def test() -> None:
        size, sent = 40_000_000, 0

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            while sent < size:
                writer.write(b"x" * 100_000)
                sent += 100_000
                await writer.drain()

        async with serving(script) as provider:
            client = HttpClient(4)
            answer = await client.request("POST", provider.url, {}, b"{}", TIMEOUTS, owner="o")
            await asyncio.sleep(0.3)
            assert sent < size / 2, "the rest must wait at the provider, not in our memory"
            assert len(await body_of(answer)) == size
            client.close()

    run(test())


def test_closing_an_answer_tells_the_provider_to_stop(run: Run) -> None:
    async def test() -> None:
        async with serving(saying(CHUNKED, b"1\r\nx\r\n")) as provider:
            answer = await HttpClient(4).request("POST", provider.url, {}, b"{}", TIMEOUTS, owner="o")
            await answer.read()
            answer.close()
            await provider.wait_for_disconnects()
            with pytest.raises(ConnectionAbortedError):
                await answer.read()

    run(test())
