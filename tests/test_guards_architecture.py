"""docs/architecture.md, CONTRIBUTING.md and the layout of README.md name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.source_files import ROOT, text_of

_DOCUMENT, _GUIDE, _README = Path("docs/architecture.md"), Path("CONTRIBUTING.md"), Path("README.md")
# Names in prose may leave out what the sentence before said.
_PLACES = ("", "app", "app/llm", "docs", "tests/admin", "tests/control_plane")
_FILE = re.compile(r"`((?:[\w.]+/)*[\w<>]+\.(?:py|md)|(?:[\w.]+/)+)`")


@pytest.mark.parametrize("document", [_DOCUMENT, _GUIDE], ids=str)
def test_every_file_that_a_document_names_is_there(document: Path) -> None:
    named = {name for name in _FILE.findall(text_of(document)) if "<" not in name}
    assert len(named) > 15
    missing = sorted(name for name in named if not any((ROOT / place / name).exists() for place in _PLACES))
    assert not missing, missing


def test_every_room_has_its_line() -> None:
    rooms = {f"{path.parent.name}/" for path in (ROOT / "app").glob("*/__init__.py")}
    told = set(re.findall(r"^\| `(\w+/)` \|", text_of(_DOCUMENT), re.MULTILINE))
    assert told == rooms


def test_the_layout_of_the_readme_names_what_is_there() -> None:
    layout = text_of(_README).partition("## Layout")[2].partition("```")[2].partition("```")[0]
    folders: dict[int, str] = {}
    named: list[str] = []
    for indent, names in re.findall(r"^( *)(\S+(?: \S+)*?)\s{2,}\S", layout, re.MULTILINE):
        above = folders.get(len(indent) - 2, "")
        named += [f"{above}{name}" for name in names.split()]
        folders[len(indent)] = f"{above}{names.split()[0]}"
    assert len(named) > 15
    assert not [name for name in named if not (ROOT / name).exists()]
