"""The queue of a receiver: bounded, patient with what may work again, and quick to end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from structlog.testing import capture_logs

from app.observability.delivery_queue import DeliveryQueue, Undelivered


class Shelf:
    """Takes batches, after `problems` have been raised one after the other."""

    def __init__(self, *problems: Exception) -> None:
        self.batches: list[list[int]] = []
        self.tries = 0
        self._problems = list(problems)
        self.arrived = asyncio.Event()

    async def deliver(self, batch: Sequence[int]) -> None:
        self.tries += 1
        if self._problems:
            raise self._problems.pop(0)
        self.batches.append(list(batch))
        self.arrived.set()


@asynccontextmanager
async def started(outbox: DeliveryQueue[int]) -> AsyncIterator[DeliveryQueue[int]]:
    outbox.start()
    yield outbox
    await outbox.stop()


async def test_what_arrives_together_is_sent_together() -> None:
    shelf = Shelf()
    async with started(DeliveryQueue("shelf", shelf.deliver, linger=0.01)) as outbox:
        for number in range(5):
            outbox.put(number)
        await asyncio.wait_for(shelf.arrived.wait(), 2)
        assert shelf.batches == [[0, 1, 2, 3, 4]]
        shelf.arrived.clear()
        outbox.put(5)
        await asyncio.wait_for(shelf.arrived.wait(), 2)
    assert (shelf.batches[1:], outbox.sent, outbox.dropped) == ([[5]], 6, 0)


async def test_a_receiver_that_recovers_gets_the_same_batch() -> None:
    shelf = Shelf(Undelivered("status 500"), Undelivered("status 503"))
    async with started(DeliveryQueue("shelf", shelf.deliver, linger=0, pauses=(0.01, 0.01))) as outbox:
        outbox.put(1)
        await asyncio.wait_for(shelf.arrived.wait(), 2)
    assert (shelf.batches, shelf.tries, outbox.dropped) == ([[1]], 3, 0)


async def test_a_batch_is_given_up_after_the_last_try_or_a_final_answer() -> None:
    for problems, tries in (([Undelivered("x")] * 3, 3), ([Undelivered("no", is_final=True)], 1), ([KeyError()], 1)):
        shelf = Shelf(*problems)
        async with started(DeliveryQueue("shelf", shelf.deliver, linger=0, pauses=(0.01, 0.01))) as outbox:
            outbox.put(1)
            while shelf.tries < tries or not outbox.dropped:
                await asyncio.sleep(0.005)
            outbox.put(2)
            await asyncio.wait_for(shelf.arrived.wait(), 2)
        assert (shelf.batches, shelf.tries, outbox.dropped) == ([[2]], tries + 1, 1)


async def test_the_oldest_make_room_and_one_line_says_so() -> None:
    outbox = DeliveryQueue[int]("shelf", Shelf().deliver, most_items=3, most_bytes=100)
    with capture_logs() as logs:
        for number in range(5):
            outbox.put(number)
        outbox.put(5, size=90)
        outbox.put(6, size=90)
    assert (len(outbox), outbox.dropped) == (1, 6)
    assert [line["event"] for line in logs] == ["messages were dropped"]
    assert (logs[0]["receiver"], logs[0]["count"]) == ("shelf", 1)


async def test_an_item_larger_than_the_bound_is_kept_alone() -> None:
    shelf = Shelf()
    async with started(DeliveryQueue("shelf", shelf.deliver, linger=0, most_bytes=10)) as outbox:
        outbox.put(1, size=50)
        await asyncio.wait_for(shelf.arrived.wait(), 2)
    assert shelf.batches == [[1]]


async def test_large_items_go_out_in_several_batches() -> None:
    shelf = Shelf()
    outbox = DeliveryQueue("shelf", shelf.deliver, linger=60)
    outbox.start()
    for number in range(4):
        outbox.put(number, size=3 * 1024 * 1024 if number else 5 * 1024 * 1024)
    await outbox.stop()
    assert shelf.batches == [[0], [1], [2], [3]]


async def test_stopping_sends_what_waits_without_lingering() -> None:
    shelf = Shelf()
    outbox = DeliveryQueue("shelf", shelf.deliver, linger=60, batch=2)
    outbox.start()
    for number in range(5):
        outbox.put(number)
    begun = time.monotonic()
    await outbox.stop()
    assert time.monotonic() - begun < 1
    assert (shelf.batches, outbox.dropped) == ([[0, 1], [2, 3], [4]], 0)


async def test_stopping_waits_no_longer_than_it_may() -> None:
    async def hang(batch: Sequence[int]) -> None:
        await asyncio.sleep(60)

    outbox = DeliveryQueue("shelf", hang, linger=0, batch=1)
    outbox.start()
    outbox.put(1)
    outbox.put(2)
    await asyncio.sleep(0.01)
    begun = time.monotonic()
    await outbox.stop(seconds=0.1)
    assert time.monotonic() - begun < 0.6
    assert (outbox.dropped, len(outbox)) == (2, 0)


async def test_an_empty_outbox_stops_at_once() -> None:
    outbox = DeliveryQueue("shelf", Shelf().deliver, linger=60)
    outbox.start()
    await asyncio.sleep(0)
    begun = time.monotonic()
    await outbox.stop()
    assert time.monotonic() - begun < 0.2
