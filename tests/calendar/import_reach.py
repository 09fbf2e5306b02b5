"""Which of our modules a test gets to by its imports and its fixtures, and which modules ask what time it is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.source_files import module_name

_ASKS = {("datetime", "now"), ("datetime", "today"), ("datetime", "utcnow"), ("date", "today")}
_ASKS |= {("time", name) for name in ("time", "time_ns", "localtime", "gmtime", "ctime", "strftime")}
_ASKED = {name for _, name in _ASKS}
_OF_OURS = ("app", "bench", "tests", "tools")
_NAMED_IN_TEXT = re.compile(r"(app(?:\.\w+)+)(?::\w+)?")  # `python -m app.cli`, "app.asgi:create"


class MovedAway(Exception):
    """An import of a module of ours that is not there: what is read here is no longer what the tests run."""


class Sources:
    """Python files by the name of their module; `trees` has their text, parsed."""

    def __init__(self, trees: Mapping[Path, ast.Module]) -> None:
        self.trees = trees
        self.paths = {module_name(path): path for path in trees}
        self._fixtures = {path: _fixtures(tree) for path, tree in trees.items() if path.stem == "conftest"}

    def asking(self) -> set[str]:
        """Modules that ask for the time of day, or for today."""
        return {name for name, path in self.paths.items() if _facts(self.trees[path]).asks}

    def reached_by(self, path: Path) -> list[str]:
        """This module, those of ours that it imports, those that they import, and so on: the nearest first."""
        found = [module_name(path)]
        known = set(found)
        for name in found:  # it grows meanwhile
            new = [*dict.fromkeys(near for near in self._next_to(self.paths[name]) if near not in known)]
            known.update(new)
            found += new
        return found

    def _next_to(self, path: Path) -> Iterator[str]:
        facts = _facts(self.trees[path])
        for node in facts.imports:
            if isinstance(node, ast.Import):
                yield from (self._ours(path, alias.name) for alias in node.names if _is_ours(alias.name))
            elif _is_ours(base := _absolute(path, node)):
                for alias in node.names:
                    whole = f"{base}.{alias.name}"
                    yield whole if whole in self.paths else self._ours(path, base)
        named = filter(None, map(_NAMED_IN_TEXT.fullmatch, facts.texts))
        yield from (name[1] for name in named if name[1] in self.paths)
        for conftest, fixtures in self._fixtures.items():
            if path != conftest and path.is_relative_to(conftest.parent) and not fixtures.isdisjoint(facts.asked):
                yield module_name(conftest)

    def _ours(self, path: Path, name: str) -> str:
        if name not in self.paths:
            raise MovedAway(f"{path} imports {name}, which is not there")
        return name


@dataclass(frozen=True)
class _Facts:
    """Of one file. `asked`: names of parameters and texts, among them those of the fixtures that it wants."""

    imports: list[ast.Import | ast.ImportFrom]
    texts: list[str]
    asked: frozenset[str]
    asks: bool


@cache
def _facts(tree: ast.Module) -> _Facts:
    nodes = list(ast.walk(tree))
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return _Facts(
        imports=[node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)],
        texts=texts,
        asked=frozenset([*texts, *(node.arg for node in nodes if isinstance(node, ast.arg))]),
        asks=any(map(_asks, nodes)),
    )


@cache
def _fixtures(tree: ast.Module) -> frozenset[str]:
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any("fixture" in ast.unparse(decorator) for decorator in node.decorator_list)
    )


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in _OF_OURS


def _absolute(path: Path, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    package = path.parts[: len(path.parts) - node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


def _asks(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in _ASKED and (ast.unparse(node.value).rpartition(".")[2], node.attr) in _ASKS
    if isinstance(node, ast.ImportFrom) and node.module == "time":
        return any(("time", alias.name) in _ASKS for alias in node.names)
    return False
