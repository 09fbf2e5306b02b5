"""The HTTP client of the hot path: what it sends, which certificates it trusts, which connections it reuses."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from app.llm.upstream.http_client import HttpClient, parse_url
from app.llm.upstream.http_response import HttpResponse, Timeouts

from .conftest import Run
from .providers import certified, saying, serving

TIMEOUTS = Timeouts(connect=5, total=10)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def body_of(answer: HttpResponse) -> bytes:
    pieces = []
    while piece := await answer.read():
        pieces.append(piece)
    return b"".join(pieces)


async def post(client: HttpClient, url: str, body: bytes | None = b"{}", **headers: str) -> bytes:
    return await body_of(await client.request("POST", url, headers, body, TIMEOUTS, owner="o"))


@pytest.mark.parametrize(
    ("url", "server", "authority", "path_and_query"),
    [
        ("http://a", ("a", 80, False), "a", "/"),
        ("https://a.example/v1/chat?x=1%2F2", ("a.example", 443, True), "a.example", "/v1/chat?x=1%2F2"),
        ("https://a:443/v1", ("a", 443, True), "a", "/v1"),
        ("http://a:8080/v1", ("a", 8080, False), "a:8080", "/v1"),
        ("http://[::1]:8080/v1", ("::1", 8080, False), "[::1]:8080", "/v1"),
        ("http://a/modèle 1?q=é#part", ("a", 80, False), "a", "/mod%C3%A8le%201?q=%C3%A9"),
        ("http://bücher.example/", ("xn--bcher-kva.example", 80, False), "xn--bcher-kva.example", "/"),
    ],
)
def test_a_url_says_where_to_go_and_what_to_ask_for(
    url: str, server: tuple[str, int, bool], authority: str, path_and_query: str
) -> None:
    parsed = parse_url(url)
    assert (parsed.server[:3], parsed.authority, parsed.path_and_query) == (server, authority, path_and_query)


@pytest.mark.parametrize("url", ["ftp://a/", "a/b", "http:///v1", "http://a:99999/", "file:///etc/passwd"])
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"address|[Pp]ort"):
        parse_url(url)


def test_a_request_says_what_every_server_wants_to_know(run: Run) -> None:
    async def test() -> None:
        async with serving(saying(OK)) as provider:
            client = HttpClient(4)
            assert await post(client, f"{provider.url}/v1?a=b", b'{"a":1}', Authorization="Bearer k") == b"ok"
            head, _, body = provider.requests[0].partition(b"\r\n\r\n")
            assert body == b'{"a":1}'
            assert head.split(b"\r\n") == [
                b"POST /v1?a=b HTTP/1.1",
                b"Host: " + provider.url.partition("//")[2].encode(),
                b"accept: */*",
                b"accept-encoding: identity",
                b"user-agent: quarterdeck",
                b"Authorization: Bearer k",
                b"Content-Length: 7",
            ]
            client.close()

    run(test())


def test_what_a_caller_says_wins_and_an_empty_post_has_a_length(run: Run) -> None:
    async def test() -> None:
        async with serving(saying(OK)) as provider:
            client = HttpClient(4)
            await post(client, provider.url, None, **{"User-Agent": "mine", "Accept": "audio/*"})
            assert b"quarterdeck" not in provider.requests[0]
            assert b"*/*" not in provider.requests[0]
            assert b"Content-Length: 0" in provider.requests[0]
            await body_of(await client.request("GET", provider.url, {}, None, TIMEOUTS, owner="o"))
            assert b"Content-Length" not in provider.requests[1]
            client.close()

    run(test())


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\rb", "a\0b", "日本"])
def test_a_header_of_more_than_one_line_is_never_sent(run: Run, value: str) -> None:
    async def test() -> None:
        async with serving(saying(OK)) as provider:
            client = HttpClient(4)
            with pytest.raises(ValueError):
                await post(client, provider.url, b"{}", Name=value)
            assert provider.connections == 0

    run(test())


def test_a_connection_serves_one_request_after_the_other(run: Run) -> None:
    async def test() -> None:
        async with serving(saying(OK)) as provider:
            client = HttpClient(4)
            for _ in range(3):
                assert await post(client, provider.url) == b"ok"
            assert (provider.connections, len(provider.requests)) == (1, 3)
            await asyncio.gather(*(post(client, provider.url) for _ in range(5)))
            assert provider.connections == 5
            client.close()
            await provider.wait_for_disconnects(5)

    run(test())


def test_an_answer_that_was_not_read_gives_its_connection_back_once_it_has_arrived(run: Run) -> None:
    async def test() -> None:
        async with serving(saying(OK)) as provider:
            client = HttpClient(4)
            answer = await client.request("POST", provider.url, {}, b"{}", TIMEOUTS, owner="o")
            answer.close()
            await post(client, provider.url)
            assert provider.connections == 1
            client.close()

    run(test())


@pytest.mark.parametrize(
    "last",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"more than was announced",
        OK + OK,
    ],
)
def test_a_connection_that_cannot_be_trusted_any_more_is_not_used_again(run: Run, last: bytes) -> None:
    async def test() -> None:
        async with serving(saying(last)) as provider:
            client = HttpClient(4)
            assert await post(client, provider.url) == b"ok"
            assert await post(client, provider.url) == b"ok"
            assert provider.connections == 2
            client.close()

    run(test())


def test_one_that_the_provider_closed_meanwhile_is_not_used_again(run: Run) -> None:
    async def test() -> None:
        async with serving(saying(OK, ends=True)) as provider:
            client = HttpClient(4)
            for _ in range(2):
                assert await post(client, provider.url) == b"ok"
                await asyncio.sleep(0.05)
            assert provider.connections == 2
            client.close()

    run(test())


def test_one_that_nobody_needs_is_closed_in_time(run: Run) -> None:
    async def test() -> None:
        async with serving(saying(OK)) as provider:
            client = HttpClient(0.1)
            await post(client, provider.url)
            await provider.wait_for_disconnects()
            await post(client, provider.url)
            assert provider.connections == 2
            client.close()

    run(test())


def test_an_answer_before_the_request_was_sent_whole_counts(run: Run) -> None:
    async def test() -> None:
        too_large = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"
        async with serving(saying(too_large), reads_body=False) as provider:
            client = HttpClient(4)
            answer = await client.request("POST", provider.url, {}, b"x" * 50_000_000, TIMEOUTS, owner="o")
            assert (answer.status, await body_of(answer)) == (413, b"no")
            await provider.wait_for_disconnects()
            client.close()

    run(test())


def test_a_large_body_arrives_whole(run: Run) -> None:
    async def test() -> None:
        async with serving(saying(OK)) as provider:
            client = HttpClient(4)
            await post(client, provider.url, b"y" * 5_000_000)
            assert provider.requests[0].endswith(b"\r\n\r\n" + b"y" * 5_000_000)
            client.close()

    run(test())


def test_a_server_is_trusted_by_its_certificate_alone(run: Run, tmp_path: Path) -> None:
    presents, trusts = certified(tmp_path)

    async def test() -> None:
        async with serving(saying(OK), tls=presents) as provider:
            client = HttpClient(4, trusts)
            assert await post(client, provider.url) == b"ok"
            assert await post(client, provider.url) == b"ok"
            assert provider.connections == 1
            with pytest.raises(ssl.SSLCertVerificationError):
                await post(client, provider.url.replace("127.0.0.1", "localhost"))
            with pytest.raises(ssl.SSLCertVerificationError):
                await post(HttpClient(4), provider.url)
            assert len(provider.requests) == 2
            client.close()

    run(test())


def test_who_does_not_shake_hands_is_given_up(run: Run) -> None:
    async def test() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(5)

        async with serving(silent) as provider:
            with pytest.raises(TimeoutError):
                await HttpClient(4).request(
                    "POST",
                    provider.url.replace("http:", "https:"),
                    {},
                    b"{}",
                    Timeouts(connect=0.2, total=5),
                    owner="o",
                )

    run(test())


def test_who_refuses_or_cannot_be_found_is_an_error_of_the_network(run: Run) -> None:
    async def test() -> None:
        for url in ("http://127.0.0.1:1", "http://nowhere.invalid"):
            with pytest.raises(OSError):
                await post(HttpClient(4), url)

    run(test())


def test_an_address_that_does_not_answer_leaves_the_next_one(run: Run) -> None:
    """`localhost` is two addresses on most machines, and this server listens on one of them."""

    async def test() -> None:
        async with serving(saying(OK)) as provider:
            client = HttpClient(4)
            assert await post(client, provider.url.replace("127.0.0.1", "localhost")) == b"ok"
            client.close()

    run(test())


def test_a_caller_that_leaves_cuts_the_connection(run: Run) -> None:
    async def test() -> None:
        async with serving(saying()) as provider:
            client = HttpClient(4)
            request = asyncio.ensure_future(post(client, provider.url))
            await asyncio.sleep(0.05)
            request.cancel()
            await provider.wait_for_disconnects()
            client.close()

    run(test())


def test_a_client_that_is_closed_leaves_nobody_waiting(run: Run) -> None:
    async def test() -> None:
        async with serving(saying()) as provider:
            client = HttpClient(4)
            request = asyncio.ensure_future(post(client, provider.url))
            await asyncio.sleep(0.05)
            client.close()
            with pytest.raises(ConnectionAbortedError):
                await request
            await provider.wait_for_disconnects()

    run(test())
