"""House rules that a machine can see; CONTRIBUTING.md says them in words."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.source_files import ROOT, functions_of, project_files, python_files, text_of, tree_of

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50

# A file is named for what is in it, not for a mechanism.
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}

# Written in two pieces, so that this file keeps its own rules.
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|Not" r"ImplementedError)\b")
SWITCHED_OFF = re.compile(r"pytest\.(mark\.)?(sk" r"ip|skip" r"if|x" r"fail|import" r"orskip)\b|unittest\.sk" r"ip")
REGISTRY_HOSTS = re.compile(
    r"(py"
    r"pi\.(org|python\.org)|files\.python"
    r"hosted\.org|(registry\.)?npm"
    r"js\.(org|com)|registry\.yarn"
    r"pkg\.com"
    r"|deb\.de"
    r"bian\.org|proxy\.go"
    r"lang\.org|static\.crates\.io|index\.crates\.io)"
)
LOCKS = ("requirements.lock", "requirements-dev.lock")

CODE = python_files("app", "tests", "bench")
TEMPLATES_AND_SCRIPTS = [
    path
    for path in project_files()
    if path.parts[0] in ("templates", "static")
    and "vendor" not in path.parts
    and path.suffix in (".html", ".js", ".css")
]


def test_files_are_short() -> None:
    lengths = {path: len(text_of(path).splitlines()) for path in [*CODE, *TEMPLATES_AND_SCRIPTS]}
    wrong = [f"{path} has {lines} lines" for path, lines in lengths.items() if lines > MAX_FILE_LINES]
    assert not wrong, "\n".join(wrong)


def test_functions_are_short() -> None:
    wrong = [
        f"{path}:{function.lineno} {function.name} has {lines} lines"
        for path in CODE
        for function in functions_of(path)
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert not wrong, "\n".join(wrong)


def test_files_are_named_for_what_is_in_them() -> None:
    wrong = [str(path) for path in project_files() if not FORBIDDEN_NAMES.isdisjoint(_names(path))]
    assert not wrong, "\n".join(wrong)


def _names(path: Path) -> set[str]:
    return {path.stem.lower(), *(part.lower() for part in path.parent.parts)} if "vendor" not in path.parts else set()


def test_nothing_is_left_unfinished() -> None:
    wrong = _lines_with(UNFINISHED, [*CODE, *TEMPLATES_AND_SCRIPTS])
    assert not wrong, "\n".join(wrong)


def test_no_test_is_switched_off() -> None:
    wrong = _lines_with(SWITCHED_OFF, python_files("tests"))
    assert not wrong, "\n".join(wrong)


def _lines_with(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    return [
        f"{path}:{number} {found[0]}"
        for path in paths
        for number, line in enumerate(text_of(path).splitlines(), start=1)
        if (found := pattern.search(line))
    ]


def test_broad_excepts_say_why() -> None:
    """A reason is a comment on the line of the except, or on the first line below it."""
    wrong = [
        f"{path}:{node.lineno}"
        for path in python_files("app")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler) and _is_broad(node) and not _has_reason(path, node.lineno)
    ]
    assert not wrong, "\n".join(wrong)


def _is_broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException") for kind in kinds)


def _has_reason(path: Path, line: int) -> bool:
    own, below = [*text_of(path).splitlines(), ""][line - 1 : line + 1]
    reason = re.sub(r"noqa(: [A-Z0-9, ]+)?", "", own.partition("#")[2]).strip(" :#-—")
    return bool(reason) or below.strip().startswith("#")


def test_no_test_patches_our_modules_by_path() -> None:
    """Pass a transport, a cache or a clock instead: a patched path ties a test to where code is, not what it does."""
    wrong = [
        f"{path}:{node.lineno}"
        for path in python_files("tests")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in ("patch", "setattr", "object", "delattr")
        and any(isinstance(arg, ast.Constant) and str(arg.value).startswith("app.") for arg in node.args)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_file_names_a_package_registry() -> None:
    """The registries are the business of whoever installs: their machines may use others."""
    wrong = _lines_with(REGISTRY_HOSTS, list(project_files()))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_by_hash_and_names_no_address(lock: str) -> None:
    text = text_of(Path(lock))
    assert "://" not in text
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"[A-Za-z0-9_.-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_run_time_lock_is_part_of_the_development_lock() -> None:
    """`make test` installs one on top of the other: they must agree on every version."""
    run_time, development = (set(re.findall(r"^\S+==\S+", text_of(Path(lock)), re.MULTILINE)) for lock in LOCKS)
    assert run_time <= development


def test_every_python_file_says_what_it_is_for() -> None:
    wrong = [str(path) for path in CODE if text_of(path).strip() and ast.get_docstring(tree_of(path)) is None]
    assert not wrong, "\n".join(wrong)


def test_links_between_documents_lead_somewhere() -> None:
    wrong = [
        f"{path} links to {target}"
        for path in project_files()
        if path.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)", text_of(path))
        if "://" not in target and not (ROOT / path.parent / target).exists()
    ]
    assert not wrong, "\n".join(wrong)
