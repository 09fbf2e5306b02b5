"""No test may depend on the calendar: whoever reaches code that asks for today writes no date out without a reason."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.calendar.import_reach import MovedAway, Sources
from tests.calendar.literal_dates import dates_of
from tests.source_files import project_files, python_files, text_of, tree_of

FILES = python_files("app", "bench", "tests", "tools")
SAMPLE = Path("tests/admin/test_sample.py")
ADMIN = '"""A sample."""\nfrom tests.admin.conftest import Caller\n'


def undeclared(sources: Sources, texts: dict[Path, str]) -> list[str]:
    """What breaks the rule in these files of tests, and declarations that have nothing to declare."""
    asking, wrong = sources.asking(), list[str]()
    for path, text in texts.items():
        dates = dates_of(text, sources.trees[path])
        wrong += [f"{path}:{line} declares no date" for line in dates.idle]
        if dates.undeclared and (asked := [name for name in sources.reached_by(path) if name in asking]):
            wrong += [f"{path}:{found.line} {found.text}, and {asked[0]} asks for today" for found in dates.undeclared]
    return wrong


def sources_with(sample: str) -> Sources:
    return Sources({**{path: tree_of(path) for path in FILES}, SAMPLE: ast.parse(sample)})


def found_in(sample: str) -> list[str]:
    return undeclared(sources_with(sample), {SAMPLE: sample})


def test_no_test_writes_out_a_date_where_today_is_asked_for() -> None:
    tests = {path: text_of(path) for path in python_files("tests")}
    wrong = undeclared(Sources({path: tree_of(path) for path in FILES}), tests)
    assert not wrong, "tests/calendar/literal_dates.py says how to declare one:\n" + "\n".join(wrong)


def test_no_data_of_tests_writes_out_a_date() -> None:
    data = [
        path
        for path in project_files()
        if path.parts[0] == "tests" and path.suffix in (".txt", ".toml", ".mjs", ".yaml", ".json", ".html")
    ]
    assert data
    wrong = [
        f"{path} {found.text}"
        for path in data
        if not path.name.endswith("-lock.json")
        for found in dates_of("", ast.parse(repr(text_of(path)) + ",")).undeclared
    ]
    assert not wrong, "\n".join(wrong)


def test_there_is_something_to_guard() -> None:
    """Every import of ours was followed: one that leads nowhere raises MovedAway."""
    sources = Sources({path: tree_of(path) for path in FILES})
    asking = {name for name in sources.asking() if name.startswith("app.")}
    assert len(asking) > 30
    tests = [path for path in FILES if path.name.startswith("test_")]
    assert len([path for path in tests if not asking.isdisjoint(sources.reached_by(path))]) > len(tests) / 2 > 50


@pytest.mark.parametrize(
    "line",
    [
        'DAYS = [{"date": "2026-11-21"}]',
        "DAYS = datetime.datetime(2026, 11, 21)",
        "DAYS = date(2026, 11, 21)",
        "DAYS = 1_790_000_000",
        'DAYS = f"2026-11-{day}"',
        'DAYS = b"2026-11-21T12:00:00Z"',
        'DAYS = "2026-11-21"  # fixed date:',
        'DAYS = "2026-11-21"  # another comment',
        'def test() -> None:\n    """2026-11-20"""\n    assert "2026-11-21"',
        'def test() -> None:\n    # fixed date: it is only shown\n    assert "2026-11-20"\n    assert "2026-11-21"',
    ],
)
def test_a_date_is_found(line: str) -> None:
    [wrong] = found_in(f"{ADMIN}{line}\n")
    assert wrong.startswith(f"{SAMPLE}:") and wrong.endswith("asks for today") and "11-20" not in wrong


@pytest.mark.parametrize(
    "line",
    [
        'TEXT = "2026-13-01"',
        'TEXT = "gpt-4o-2024-08-06"',
        'URL = "/chat/completions?api-version=2024-10-21"',
        'call(api_version="2024-10-21", params={"api_version": "2024-10-21"})',
        "PORT = 65_535",
        'def test() -> None:\n    """Of 2026-11-21."""',
        'DAY = "2026-11-21"  # fixed date: it is only shown',
        '# fixed date: it is only shown\nDAY = "2026-11-21"',
        'def test() -> None:\n    # fixed date: it is only shown\n    assert "2026-11-21"',
        'DAYS = [  # fixed dates: they are only shown\n    "2026-11-21",\n    "2026-11-22",\n]',
        'def test() -> None:  # fixed date: it is only shown\n    assert "2026-11-21"',
        '# fixed dates: they are only shown\nONE = "2026-11-21"\nTWO = "2026-11-22"',
    ],
)
def test_no_date_and_a_declared_one_pass(line: str) -> None:
    assert found_in(f"{ADMIN}{line}\n") == []


@pytest.mark.parametrize(
    "how",
    [
        "from app.models import VirtualKey",
        "from .conftest import Caller",
        "import tests.admin.conftest",
        "async def test(admin: Caller) -> None: ...",
        'COMMAND = [python, "-m", "app.cli"]',
        "TODAY = datetime.now(UTC)",
        "from time import time",
    ],
)
def test_today_is_reached(how: str) -> None:
    assert found_in(f'"""A sample."""\n{how}\nDAY = "2026-11-21"\n')


def test_a_date_means_nothing_to_code_that_never_asks() -> None:
    assert found_in('from app.durations import next_reset\nDAY = "2026-11-21"\n') == []


def test_an_idle_declaration_is_named() -> None:
    assert found_in("DAY = 1  # fixed date: there was one once\n") == [f"{SAMPLE}:1 declares no date"]


@pytest.mark.parametrize("line", ["import app.gone", "from app.gone import gone", "from .gone import gone"])
def test_an_import_that_leads_nowhere_is_no_silence(line: str) -> None:
    with pytest.raises(MovedAway, match=r"gone, which is not there"):
        found_in(f'{line}\nDAY = "2026-11-21"\n')
