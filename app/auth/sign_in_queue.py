"""How many sign-ins are looked at together: a flood is turned away, and nobody waits behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import TooManyRequests

# A password takes one of two threads for about 50 ms, so the last of these waits for less than a second.
MAX_SIGN_INS = 32


class SignInQueue:
    """Places for sign-ins that are looked at or wait for it; who finds none is told so at once.

    Each source takes a part of them only, so a flood from one leaves some to the others.
    """

    def __init__(self, max_sign_ins: int = MAX_SIGN_INS) -> None:
        self._max = max_sign_ins
        self._taken: Counter[str] = Counter()

    @contextmanager
    def place(self, source: str, max_of_source: int) -> Iterator[None]:
        """One place for as long as a sign-in takes. Raises 429 when all, or all of this source, are taken."""
        if self._taken[source] >= max_of_source or self._taken.total() >= self._max:
            raise TooManyRequests(
                "Too many sign-ins at once. Try again in a moment.",
                type="auth_error",
                param="username",
                headers={"Retry-After": "1"},
            )
        self._taken[source] += 1
        try:
            yield
        finally:
            self._taken[source] -= 1
            self._taken += Counter()  # forgets who holds none
