"""A client that is still sending hears a refusal once it has sent all, or after a while."""

from __future__ import annotations

import asyncio

import pytest
from quart import Quart
from werkzeug.exceptions import RequestEntityTooLarge

from app.web.request_body import DRAIN_SECONDS, DrainingBody, DrainingRequest, refuse_body, wait_until_sent


async def test_a_body_that_is_too_large_is_not_sent_before_its_end_has_come() -> None:
    body = DrainingBody(None, 10)
    body.append(b"x" * 20)
    with pytest.raises(RequestEntityTooLarge):
        await body
    assert not body.is_sent.is_set()
    body.append(b"x" * 20)
    assert not body.is_sent.is_set()
    body.set_complete()
    assert body.is_sent.is_set()


async def test_a_body_within_its_limit_is_sent_when_it_is_complete() -> None:
    body = DrainingBody(None, 10)
    body.append(b"half")
    assert not body.is_sent.is_set()
    body.set_complete()
    assert body.is_sent.is_set()
    assert await body == b"half"


async def test_a_refusal_waits_for_the_rest_of_the_body() -> None:
    app = Quart("draining", static_folder=None)
    app.request_class = DrainingRequest
    async with app.test_request_context("/", method="POST", data=b"") as context:
        request = context.request
        request.body = DrainingBody(None, 10)
        await wait_until_sent(request)  # not refused: there is nothing to wait for
        refuse_body(request)
        waiting = asyncio.create_task(wait_until_sent(request))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        request.body.set_complete()
        async with asyncio.timeout(DRAIN_SECONDS / 2):
            await waiting
