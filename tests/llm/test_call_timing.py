"""Times of a call: what its attempts took is the providers', what follows a first chunk is nobody's."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from app.llm.call_timing import CallTiming


def test_attempts_add_up_as_the_providers_time() -> None:
    timing = CallTiming()
    for _ in range(2):
        timing.start_attempt()
        time.sleep(0.002)
        assert timing.end_attempt() >= 0.002
    assert 0.004 <= timing.upstream_seconds <= timing.total_seconds
    assert timing.attempt_offset >= 0.002
    assert (timing.first_chunk_at, timing.first_chunk_seconds) == (None, None)


def test_a_first_chunk_ends_what_counts_as_the_providers_time() -> None:
    timing = CallTiming()
    timing.start_attempt()
    timing.first_chunk()
    counted = timing.upstream_seconds
    time.sleep(0.002)
    assert timing.upstream_seconds == counted == timing.attempt_first_chunk
    assert timing.first_chunk_at is not None and timing.first_chunk_at.tzinfo is UTC
    assert timing.first_chunk_seconds is not None and 0 <= timing.first_chunk_seconds < timing.total_seconds


def test_a_call_begins_now() -> None:
    before = datetime.now(UTC)
    assert before <= CallTiming().started_at <= datetime.now(UTC)
