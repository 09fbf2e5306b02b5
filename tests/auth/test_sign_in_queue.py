"""Places for sign-ins: few at once, fewer of one source, and given back whatever happens."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from app.auth.sign_in_queue import SignInQueue
from app.errors import TooManyRequests


def test_one_source_takes_its_part_and_others_find_the_rest() -> None:
    queue = SignInQueue(max_sign_ins=3)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(queue.place("first", 2))
        with pytest.raises(TooManyRequests) as refusal, queue.place("first", 2):
            pass
        assert (refusal.value.status, refusal.value.headers["Retry-After"]) == (429, "1")
        stack.enter_context(queue.place("second", 2))
        with pytest.raises(TooManyRequests), queue.place("third", 2):
            pass
    with queue.place("third", 2):
        pass


def test_a_sign_in_that_fails_gives_its_place_back() -> None:
    queue = SignInQueue(max_sign_ins=1)
    for _ in range(3):
        with pytest.raises(RuntimeError), queue.place("first", 1):
            raise RuntimeError
