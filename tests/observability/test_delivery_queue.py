"""The queue of a receiver: bounded, retried where that may help, and quick to end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from structlog.testing import capture_logs

from app.observability.delivery_queue import DeliveryFailed, DeliveryQueue


class FakeReceiver:
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
async def started(queue: DeliveryQueue[int]) -> AsyncIterator[DeliveryQueue[int]]:
    queue.start()
    yield queue
    await queue.stop()


async def test_what_arrives_together_is_sent_together() -> None:
    receiver = FakeReceiver()
    async with started(DeliveryQueue("receiver", receiver.deliver, linger=0.01)) as queue:
        for number in range(5):
            queue.put(number)
        await asyncio.wait_for(receiver.arrived.wait(), 2)
        assert receiver.batches == [[0, 1, 2, 3, 4]]
        receiver.arrived.clear()
        queue.put(5)
        await asyncio.wait_for(receiver.arrived.wait(), 2)
    assert (receiver.batches[1:], queue.sent, queue.dropped) == ([[5]], 6, 0)


async def test_a_receiver_that_recovers_gets_the_same_batch() -> None:
    receiver = FakeReceiver(DeliveryFailed("status 500"), DeliveryFailed("status 503"))
    async with started(DeliveryQueue("receiver", receiver.deliver, linger=0, retry_delays=(0.01, 0.01))) as queue:
        queue.put(1)
        await asyncio.wait_for(receiver.arrived.wait(), 2)
    assert (receiver.batches, receiver.tries, queue.dropped) == ([[1]], 3, 0)


async def test_a_batch_is_given_up_after_the_last_try_or_a_final_answer() -> None:
    for problems, tries in (
        ([DeliveryFailed("x")] * 3, 3),
        ([DeliveryFailed("no", is_permanent=True)], 1),
        ([KeyError()], 1),
    ):
        receiver = FakeReceiver(*problems)
        async with started(DeliveryQueue("receiver", receiver.deliver, linger=0, retry_delays=(0.01, 0.01))) as queue:
            queue.put(1)
            while receiver.tries < tries or not queue.dropped:
                await asyncio.sleep(0.005)
            queue.put(2)
            await asyncio.wait_for(receiver.arrived.wait(), 2)
        assert (receiver.batches, receiver.tries, queue.dropped) == ([[2]], tries + 1, 1)


async def test_the_oldest_make_room_and_one_line_says_so() -> None:
    queue = DeliveryQueue[int]("receiver", FakeReceiver().deliver, max_items=3, max_bytes=100)
    with capture_logs() as logs:
        for number in range(5):
            queue.put(number)
        queue.put(5, size=90)
        queue.put(6, size=90)
    assert (len(queue), queue.dropped) == (1, 6)
    assert [line["event"] for line in logs] == ["notifications dropped"]
    assert (logs[0]["receiver"], logs[0]["count"]) == ("receiver", 1)


async def test_an_item_larger_than_the_bound_is_kept_alone() -> None:
    receiver = FakeReceiver()
    async with started(DeliveryQueue("receiver", receiver.deliver, linger=0, max_bytes=10)) as queue:
        queue.put(1, size=50)
        await asyncio.wait_for(receiver.arrived.wait(), 2)
    assert receiver.batches == [[1]]


async def test_large_items_go_out_in_several_batches() -> None:
    receiver = FakeReceiver()
    queue = DeliveryQueue("receiver", receiver.deliver, linger=60)
    queue.start()
    for number in range(4):
        queue.put(number, size=3 * 1024 * 1024 if number else 5 * 1024 * 1024)
    await queue.stop()
    assert receiver.batches == [[0], [1], [2], [3]]


async def test_stopping_sends_what_waits_without_lingering() -> None:
    receiver = FakeReceiver()
    queue = DeliveryQueue("receiver", receiver.deliver, linger=60, batch=2)
    queue.start()
    for number in range(5):
        queue.put(number)
    begun = time.monotonic()
    await queue.stop()
    assert time.monotonic() - begun < 1
    assert (receiver.batches, queue.dropped) == ([[0, 1], [2, 3], [4]], 0)


async def test_stopping_waits_no_longer_than_it_may() -> None:
    async def hang(batch: Sequence[int]) -> None:
        await asyncio.sleep(60)

    queue = DeliveryQueue("receiver", hang, linger=0, batch=1)
    queue.start()
    queue.put(1)
    queue.put(2)
    await asyncio.sleep(0.01)
    begun = time.monotonic()
    await queue.stop(seconds=0.1)
    assert time.monotonic() - begun < 0.6
    assert (queue.dropped, len(queue)) == (2, 0)


async def test_an_empty_queue_stops_at_once() -> None:
    queue = DeliveryQueue("receiver", FakeReceiver().deliver, linger=60)
    queue.start()
    await asyncio.sleep(0)
    begun = time.monotonic()
    await queue.stop()
    assert time.monotonic() - begun < 0.2
