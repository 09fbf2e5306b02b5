"""docs/security.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.source_files import ROOT, text_of

_DOCUMENT = Path("docs/security.md")


def test_every_promise_names_a_test_that_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text_of(_DOCUMENT))
    assert len(named) > 40
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / file).is_file() or not re.search(rf"def {name}\b", text_of(Path(file)))
    ]
    assert not missing, missing


def test_every_promise_has_a_test() -> None:
    promises = text_of(_DOCUMENT).partition("## What is not closed yet")[0].split("\n- ")[1:]
    without = [promise[:80] for promise in promises if "::test_" not in promise]
    assert not without, without
