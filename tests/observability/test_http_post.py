"""One POST of a callback: what counts as delivered, what is tried again, and where it never goes."""

from __future__ import annotations

import pytest

from app.observability.delivery_queue import Undelivered
from app.observability.http_post import open_client, post_json
from tests.observability.receivers import HttpReceiver


async def _problem(url: str) -> Undelivered:
    async with open_client() as http:
        with pytest.raises(Undelivered) as problem:
            await post_json(http, url, b"{}", {"X-Secret": "hidden-word"})
    assert "hidden-word" not in str(problem.value)
    assert "127.0.0.1" not in str(problem.value)
    return problem.value


async def test_a_body_arrives_as_json_with_its_headers() -> None:
    async with HttpReceiver() as receiver, open_client() as http:
        await post_json(http, f"{receiver.url}/in", b'{"a":1}', {"X-A": "b"})
        (post,) = receiver.posts
    assert (post.path, post.json, post.headers["x-a"]) == ("/in", {"a": 1}, "b")
    assert post.headers["content-type"] == "application/json"


async def test_statuses_say_whether_another_try_may_help() -> None:
    async with HttpReceiver(500, 429, 404) as receiver:
        finals = [(await _problem(receiver.url)).is_final for _ in range(3)]
    assert finals == [False, False, True]


async def test_redirects_are_not_followed() -> None:
    async with HttpReceiver() as elsewhere, HttpReceiver(302, location=elsewhere.url) as receiver:
        assert (await _problem(receiver.url)).is_final
        assert elsewhere.posts == []


async def test_cookies_of_a_receiver_do_not_come_back_to_it() -> None:
    async with HttpReceiver(cookie="session=of-a-tenant; Max-Age=60") as receiver, open_client() as http:
        for _ in range(2):
            await post_json(http, receiver.url, b"{}", {})
        assert [post.headers.get("cookie") for post in receiver.posts] == [None, None]


async def test_nobody_there_may_be_there_later() -> None:
    async with HttpReceiver() as receiver:
        url = receiver.url
    problem = await _problem(url)
    assert (str(problem), problem.is_final) == ("ConnectError", False)
