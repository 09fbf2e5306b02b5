"""Answers in the memory of one process: found until their end, bounded in number and in bytes."""

from __future__ import annotations

from app.backends import open_answer_store
from app.llm.caching.answer_store import MemoryAnswers
from app.settings.response_cache import CacheParams


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def store(max_entries: int = 3, max_bytes: int = 1000) -> tuple[MemoryAnswers, Clock]:
    clock = Clock()
    return MemoryAnswers(max_entries, max_bytes, clock), clock


async def test_an_answer_is_there_until_its_end() -> None:
    answers, clock = store()
    answers.put("a", b"1", 10)
    assert await answers.get_many(["a", "b"]) == [b"1", None]
    clock.now += 10
    assert await answers.get_many(["a"]) == [None]
    assert (len(answers), answers.bytes) == (0, 0)


async def test_what_was_not_asked_for_the_longest_goes_first() -> None:
    answers, _ = store(max_entries=2)
    answers.put("a", b"1", 10)
    answers.put("b", b"2", 10)
    await answers.get_many(["a"])
    answers.put("c", b"3", 10)
    assert await answers.get_many(["a", "b", "c"]) == [b"1", None, b"3"]


async def test_bytes_are_bounded_too() -> None:
    answers, _ = store(max_entries=100, max_bytes=100)
    for number in range(20):
        answers.put(str(number), b"x" * 30, 10)
        assert answers.bytes <= 100
    assert await answers.get_many(["19"]) == [b"x" * 30]
    answers.put("huge", b"x" * 101, 10)
    assert await answers.get_many(["huge", "19"]) == [None, b"x" * 30]


async def test_another_answer_under_the_same_key_takes_its_place() -> None:
    answers, _ = store()
    answers.put("a", b"x" * 100, 10)
    answers.put("a", b"y", 10)
    assert await answers.get_many(["a"]) == [b"y"]
    assert answers.bytes == 2


async def test_answers_are_dropped_by_key_and_all_at_once() -> None:
    answers, _ = store()
    for name in ("a", "b", "c"):
        answers.put(name, b"1", 10)
    assert await answers.delete(["a", "x"]) == 1
    assert await answers.flush() == 2
    assert (len(answers), answers.bytes) == (0, 0)


async def test_without_redis_answers_are_kept_in_memory() -> None:
    assert open_answer_store(CacheParams()).kind == "local"
    in_redis = open_answer_store(CacheParams(redis_url="redis://127.0.0.1:1/0"))
    assert in_redis.kind == "redis"
    await in_redis.close()
