"""The project's own files, as the guard tests read them."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@cache
def project_files() -> tuple[Path, ...]:
    """Every file that is or would be committed, relative to the repository; without git, all that are not hidden."""
    if not (ROOT / ".git").exists():
        return tuple(path.relative_to(ROOT) for path in sorted(ROOT.glob("[!.]*/**/*")) if path.is_file())
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-co", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\0")
    return tuple(Path(name) for name in sorted(names) if name and (ROOT / name).is_file())


def python_files(*folders: str) -> list[Path]:
    """The Python files below these folders, relative to the repository."""
    return [path for path in project_files() if path.suffix == ".py" and path.parts[0] in folders]


@cache
def text_of(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(text_of(path), filename=str(path))


def functions_of(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def module_name(path: Path) -> str:
    """Dotted name of a Python file: app/auth/login.py is app.auth.login, app/__init__.py is app."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
