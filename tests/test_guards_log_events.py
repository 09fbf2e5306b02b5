"""Warnings and errors have stable names, and docs/operations.md says of each what it means and what to do."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator

from tests.source_files import ROOT, python_files, tree_of

_LEVELS = ("warning", "error", "exception", "critical")
_LOGGER_FACTORIES = ("structlog.get_logger", "logging.getLogger")
# | `event` | level | meaning | what to do |
_ROW = re.compile(r"^\| `([^`]+)` \| (warning|error|warning or error) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def _loggers(tree: ast.Module) -> set[str]:
    """The module's names for its loggers."""
    return {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Name) and ast.unparse(node.value.func) in _LOGGER_FACTORIES
    }


def log_calls(tree: ast.Module) -> Iterator[tuple[str, int, str | None]]:
    """(level, line, event) of each warning or error; the event is None where it is not a constant string."""
    loggers = _loggers(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in _LEVELS:
            continue
        if ast.unparse(node.func.value) not in loggers:
            continue
        first = node.args[0] if node.args else None
        event = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
        yield "warning" if node.func.attr == "warning" else "error", node.lineno, event


def _documented() -> list[tuple[str, str]]:
    """(event, levels) of each row of the tables."""
    section = (ROOT / "docs/operations.md").read_text(encoding="utf-8").partition("\n## Events in the log\n")[2]
    return [(event, level) for event, level, _, _ in _ROW.findall(section)]


def test_event_names_are_constant_strings() -> None:
    """What an operator searches for must not change with what happened: values are fields of the line."""
    wrong = [
        f"{path}:{line}" for path in python_files("app") for _, line, event in log_calls(tree_of(path)) if event is None
    ]
    assert not wrong, "\n".join(wrong)


def test_every_warning_and_error_is_in_the_operations_manual_and_no_other() -> None:
    logged: dict[str, set[str]] = defaultdict(set)
    for path in python_files("app"):
        for level, _, event in log_calls(tree_of(path)):
            if event is not None:
                logged[event].add(level)
    documented = dict(_documented())
    assert len(documented) > 50
    missing, gone = sorted(logged.keys() - documented.keys()), sorted(documented.keys() - logged.keys())
    assert (missing, gone) == ([], []), "docs/operations.md, Events in the log: missing rows and rows of no event"
    levels = {event: set(level.split(" or ")) for event, level in documented.items()}
    assert levels == logged


def test_no_event_has_two_rows() -> None:
    events = [event for event, _ in _documented()]
    assert len(events) == len(set(events))


def test_a_call_with_a_variable_event_is_noticed() -> None:
    tree = ast.parse('log = structlog.get_logger(__name__)\nlog.warning(what)\nlog.error("x", a=1)\nother.error(y)')
    assert list(log_calls(tree)) == [("warning", 2, None), ("error", 3, "x")]
