"""Input files of batches: which models they name, and the same under other names."""

from __future__ import annotations

import json

from app.protocols.batch_file import models_of_batch, renamed_batch


def test_lines_keep_everything_but_the_model() -> None:
    line = {"custom_id": "1", "url": "/v1/embeddings", "body": {"model": "a", "input": ["ä", 1.50]}, "x": None}
    file = json.dumps(line, ensure_ascii=False).encode() + b"\r\n\n" + b'{"body":{"model":"b"}}'
    assert models_of_batch(file) == ("a", "b")
    first, second = renamed_batch(file, {"a": "gpt", "b": "gpt-2"}).splitlines()
    assert json.loads(first) == {**line, "body": {"model": "gpt", "input": ["ä", 1.5]}}
    assert json.loads(second) == {"body": {"model": "gpt-2"}}
