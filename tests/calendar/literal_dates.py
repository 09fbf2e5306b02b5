"""Dates of this century that a file writes out, and the comments that declare them.

A test that writes out a date breaks one day, unless the code that it calls is told what day it is. Where that is so, or
where a date is only text, it says so:

    NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)  # fixed date: every call of this file is handed its clock

The comment stands on the line of the date or alone on the line above it, or so at the first line of a list, a call, a
function or a class around it. `# fixed dates: …` alone on a line, without indent, declares all of a file.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

# A day, or the beginning of one in an f-string. A version of an API ("api-version=2024-10-21") and of a model
# ("gpt-4o-2024-08-06") are names.
_DAY = re.compile(
    r"(?<![\w-])(?<!api-version=)20\d\d-(?:0[1-9]|1[0-2])-(?:(?:0[1-9]|[12]\d|3[01])(?!\d)|$)",
)
_NAMES_OF_VERSIONS = {"api_version", "api-version"}
_DECLARED = re.compile(r"#\s*fixed dates?:\s*\S.*\s\S+")  # a reason has at least two words
_FIRST_SECOND, _END = 978_307_200, 4_102_444_800  # of 2001 and of 2100, in seconds since 1970
_YEARS = range(2000, 2100)
_MAY_DECLARE = (ast.stmt, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Call)  # for all that is in it


@dataclass(frozen=True)
class LiteralDate:
    line: int
    text: str


@dataclass(frozen=True)
class DatesOf:
    """`undeclared`: dates without a reason. `idle`: lines on which a declaration is for no date."""

    undeclared: list[LiteralDate]
    idle: list[int]


def dates_of(text: str, tree: ast.Module) -> DatesOf:
    declared = _declarations(text)
    whole_file = {line for line, at_the_beginning in declared.items() if at_the_beginning}
    undeclared, used = list[LiteralDate](), set[int]()
    for found, lines in _literals(tree):
        by = (lines & declared.keys()) or whole_file
        used |= by
        if not by:
            undeclared.append(found)
    return DatesOf(undeclared, sorted(declared.keys() - used))


def _declarations(text: str) -> dict[int, bool]:
    """Line that it is for -> whether it is for all of the file: it stands alone there, without indent."""
    declared = dict[int, bool]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and _DECLARED.match(token.string):
            line, column = token.start
            is_alone = not token.line[:column].strip()
            declared[line + 1 if is_alone else line] = is_alone and column == 0
    return declared


def _literals(tree: ast.Module) -> Iterator[tuple[LiteralDate, set[int]]]:
    """Every date, with the lines on which a declaration counts for it."""

    def visit(node: ast.AST, lines: frozenset[int]) -> Iterator[tuple[LiteralDate, set[int]]]:
        if isinstance(node, _MAY_DECLARE):
            lines |= {node.lineno}
        if isinstance(node, ast.expr) and (shown := _date_in(node)):
            own = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            yield LiteralDate(node.lineno, shown), {*lines, *own}
        for child in _children(node):
            yield from visit(child, lines)

    yield from visit(tree, frozenset())


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Without what is only said to readers, and what is a version."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.keyword) and node.arg in _NAMES_OF_VERSIONS:
        return
    versions = set()
    if isinstance(node, ast.Dict):
        versions = {
            value
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant) and key.value in _NAMES_OF_VERSIONS
        }
    yield from (child for child in ast.iter_child_nodes(node) if child not in versions)


def _date_in(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        if isinstance(value, str):
            return found[0] if (found := _DAY.search(value)) else ""
        if isinstance(value, int | float) and _FIRST_SECOND <= value < _END and value != 10**9:
            return ast.unparse(node)
    if isinstance(node, ast.Call) and node.args and isinstance(year := node.args[0], ast.Constant):
        is_date = year.value in _YEARS and ast.unparse(node.func).rpartition(".")[2] in ("datetime", "date")
        return ast.unparse(node) if is_date else ""
    return ""
