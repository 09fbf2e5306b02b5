"""A guard: one module of app/admin writes rows and announces what it wrote, which a view could forget."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import app.admin

_ADMIN = Path(app.admin.__file__).parent
_WRITES = frozenset({"create", "save", "delete", "update", "write", "archive", "bulk_create", "bulk_update"})
# Rows that no process remembers.
_NOT_REMEMBERED = frozenset({"AuditLog", "DeletedTeam", "HealthCheck", "Invitation", "invitation"})
# Writes with a `row_written` after them; and what is no row.
_ELSEWHERE = {"keys/changes.py": {"key.archive"}, "settings/response_cache_routes.py": {"answers.delete"}}


def _modules() -> list[Path]:
    return [path for path in sorted(_ADMIN.rglob("*.py")) if path != _ADMIN / "changes.py"]


def _called(node: ast.expr) -> str:
    """The dotted names of a call: `services().keys.forget(x)` is `services.keys.forget`."""
    if isinstance(node, ast.Call):
        return _called(node.func)
    if isinstance(node, ast.Attribute):
        return f"{_called(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _problems(source: str, allowed: frozenset[str] | set[str] = frozenset()) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = _called(node)
            if name.endswith((".announce", ".keys.forget", ".deployments.reload", ".database.transaction")):
                yield name
        if isinstance(node, ast.Await) and isinstance(node.value, ast.Call):
            name = _called(node.value)
            root, _, method = name.split("(")[0].partition(".")
            if method.rpartition(".")[2] in _WRITES and root not in _NOT_REMEMBERED and name not in allowed:
                yield name


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(_ADMIN)))
def test_rows_are_written_and_announced_in_one_module(path: Path) -> None:
    problems = list(_problems(path.read_text(), _ELSEWHERE.get(path.relative_to(_ADMIN).as_posix(), set())))
    assert problems == [], "write with the functions of app/admin/changes.py: they announce it after the commit"


@pytest.mark.parametrize(
    "source",
    [
        "services().keys.forget(f'key:{token}')",
        "services().announcer.announce('all')",
        "async def view():\n    async with services().database.transaction():\n        pass",
        "async def view():\n    await User.filter(user_id=1).update(spend=0)",
        "async def view():\n    await row.save()",
        "async def view():\n    await Team.create(team_id=1)",
        "async def view():\n    await services().deployments.reload()",
    ],
)
def test_the_guard_finds_what_it_forbids(source: str) -> None:
    assert len(list(_problems(source))) == 1
