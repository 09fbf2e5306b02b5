"""Output files of batches, in pieces of any size."""

from __future__ import annotations

import json

import pytest

from app.protocols.batch_output import BatchOutput, Counted


def line(model: str | None, usage: object) -> bytes:
    return json.dumps({"custom_id": "ä", "response": {"body": {"model": model, "usage": usage}}}).encode()


FILE = b"\n".join([line("a", {"n": 1}), b"", line("b", {"n": 2}), b"oops", line(None, {"n": 3}), line("a", None)])
ANSWERS = [Counted("a", {"n": 1}), Counted("b", {"n": 2}), Counted("", {"n": 3})]


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_a_file_is_read_the_same_whatever_the_pieces(size: int) -> None:
    output = BatchOutput()
    pieces = [FILE[start : start + size] for start in range(0, len(FILE), size)]
    found = [answer for piece in pieces for answer in output.feed(piece)] + list(output.finish())
    assert found == ANSWERS
    assert (output.failed, output.unreadable) == (1, 1)


def test_a_line_without_an_end_is_not_kept() -> None:
    output = BatchOutput(longest_line=100)
    for _ in range(1000):
        assert not list(output.feed(b"x" * 50))
    assert sum(map(len, output._parts)) <= 100
    assert list(output.feed(b"\n" + line("a", {"n": 1}) + b"\n")) == ANSWERS[:1]
    assert output.unreadable == 1


def test_a_call_that_failed_is_no_broken_line() -> None:
    output = BatchOutput()
    errors = [b'{"response": null, "error": {"code": "x"}}', b'{"response": {"body": "text"}}', b'{"response": {}}']
    assert not list(output.feed(b"\n".join([*errors, b""])))
    assert (output.failed, output.unreadable) == (3, 0)
