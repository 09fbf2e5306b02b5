"""Who may import whom: the table of docs/architecture.md, held by machine."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.source_files import functions_of, module_name, python_files, tree_of

APP_FILES = python_files("app")
MODULES = {module_name(path): path for path in APP_FILES}

# Modules that stand at the door: they start the application, so they import the package that wires it.
ENTRY_POINTS = ("app.cli", "app.server.asgi", "app.server.demo", "app.server.serve")

# Package -> what nothing in it may import.
NEVER = {
    "app.control_plane": (
        "app.models",
        "app.admin",
        "app.llm",
        "app.protocols",
        "app.spend",
        "app.storage",
        "app.observability",
        "tortoise",
    ),
    "app.models": ("quart", "app.admin", "app.auth", "app.control_plane", "app.llm", "app.services", "app.storage"),
    "app.protocols": (
        "quart",
        "httpx",
        "httptools",
        "tortoise",
        "app.models",
        "app.storage",
        "app.services",
        "app.llm",
    ),
    "app.admin": ("app.llm", "app.control_plane", "app.server"),
    "app.llm": ("app.admin", "app.control_plane", "app.observability", "app.server"),
    "app.observability": ("quart", "tortoise", "app.admin", "app.control_plane", "app.models", "app.services"),
    "app.spend": ("quart", "app.admin", "app.auth", "app.control_plane", "app.llm", "app.observability"),
    "app.auth": ("app.admin", "app.control_plane", "app.llm", "app.observability"),
    "app.storage": ("quart", "app.admin", "app.auth", "app.control_plane", "app.llm", "app.spend"),
    "app.security": ("quart", "tortoise", "app.auth", "app.models", "app.storage"),
    "app.settings": ("quart", "tortoise", "app.models", "app.storage"),
}

# Package -> the only packages of ours that anything in it may import.
ONLY = {
    # What is a secret is told in one place, and errors of configuration must not repeat one.
    "app.settings": ("app.settings", "app.durations", "app.security.masking"),
    "app.durations": (),
    "app.errors": (),
    "app.security": ("app.security", "app.durations", "app.errors"),
}

# The one file that imports modules of ours late: the optional clients.
LATE_IMPORTS = "app.backends"

# The edge: where a request comes in. Everything else is handed what it needs.
MAY_SEE_REQUEST = (
    "app.admin",
    "app.auth",
    "app.control_plane",
    "app.server.demo",
    "app.llm.passthrough.routes",
    "app.llm.routes.openai",
    "app.llm.routes.files",
    "app.llm.routes.utilities",
    "app.web.cross_origin",
    "app.web.fields",
)
MAY_SEE_REQUEST_EXACTLY = ("app",)


@cache
def imported(path: Path, *, at_run_time: bool = False) -> tuple[tuple[int, str], ...]:
    """(line, absolute dotted name) of every import, `from a import b` as a.b; `at_run_time`: not those for types."""
    found: list[tuple[int, str]] = []
    skipped = set(_imports_for_types(tree_of(path))) if at_run_time else set()
    for node in ast.walk(tree_of(path)):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found.extend((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(path, node)
            found.extend((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and (name := _late_import(node)):
            found.append((node.lineno, name))
    return tuple(found)


def _late_import(node: ast.AST | ast.expr) -> str | None:
    """The module of ours that `import_module("app.…")` names, however the function is called; else None."""
    if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
        return None
    called, name = ast.unparse(node.func).rpartition(".")[2], str(node.args[0].value)
    return name if called in ("import_module", "__import__") and is_within(name, "app") else None


def _absolute(path: Path, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    package = path.parent.parts[: len(path.parent.parts) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


def _imports_for_types(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                yield from ast.walk(statement)


def module_of(name: str) -> str | None:
    """The module of ours that an imported name lives in; None when it is not ours."""
    while name not in MODULES:
        name, dot, _ = name.rpartition(".")
        if not dot:
            return None
    return name


def is_within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def where(path: Path, line: int) -> str:
    return f"{path}:{line}"


def test_what_the_tables_above_name_is_there() -> None:
    """A module that moved away would else be guarded no more, in silence."""
    named = [LATE_IMPORTS, *ENTRY_POINTS, *NEVER, *ONLY, *MAY_SEE_REQUEST, *MAY_SEE_REQUEST_EXACTLY]
    named += [name for names in (*NEVER.values(), *ONLY.values()) for name in names if is_within(name, "app")]
    missing = sorted({name for name in named if name not in MODULES})
    assert not missing, missing


def test_whoever_may_see_the_request_does() -> None:
    idle = [
        package
        for package in (*MAY_SEE_REQUEST, *MAY_SEE_REQUEST_EXACTLY)
        if not any(
            is_within(module, package) if package in MAY_SEE_REQUEST else module == package
            for module, path in MODULES.items()
            if any(name == "quart.request" for _, name in imported(path))
        )
    ]
    assert not idle, f"strike them from the table: {idle}"


@pytest.mark.parametrize(("package", "forbidden"), NEVER.items())
def test_package_never_imports(package: str, forbidden: tuple[str, ...]) -> None:
    wrong = [
        f"{where(path, line)} imports {name}"
        for module, path in MODULES.items()
        if is_within(module, package)
        for line, name in imported(path)
        if is_within(name, *forbidden)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("package", "allowed"), ONLY.items())
def test_package_imports_only(package: str, allowed: tuple[str, ...]) -> None:
    wrong = [
        f"{where(path, line)} imports {name}"
        for module, path in MODULES.items()
        if is_within(module, package)
        for line, name in imported(path)
        if _is_foreign(name, allowed)
    ]
    assert not wrong, "\n".join(wrong)


def _is_foreign(name: str, allowed: tuple[str, ...]) -> bool:
    target = module_of(name)
    return target is not None and not is_within(target, *allowed)


def test_only_entry_points_import_the_wiring() -> None:
    wrong = [
        f"{where(path, line)} imports {name} from app/__init__"
        for module, path in MODULES.items()
        if module != "app" and not is_within(module, *ENTRY_POINTS)
        for line, name in imported(path)
        if module_of(name) == "app" and name.count(".") <= 1
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_edge_sees_the_request() -> None:
    wrong = [
        where(path, line)
        for module, path in MODULES.items()
        if not is_within(module, *MAY_SEE_REQUEST) and module not in MAY_SEE_REQUEST_EXACTLY
        for line, name in imported(path, at_run_time=True)
        if name == "quart.request"
    ]
    assert not wrong, "quart.request is for the HTTP edge:\n" + "\n".join(wrong)


def test_no_import_cycles() -> None:
    """Imports for types only do not count: they never run."""
    graph = {
        module: sorted(
            {
                target
                for _, name in imported(path, at_run_time=True)
                if (target := module_of(name)) is not None and target not in (module, "app")
            }
        )
        for module, path in MODULES.items()
    }
    cycle = _find_cycle(graph)
    assert cycle is None, " -> ".join(cycle or [])


def _find_cycle(graph: dict[str, list[str]]) -> list[str] | None:
    finished: set[str] = set()

    def visit(module: str, trail: list[str]) -> list[str] | None:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in finished:
            return None
        for target in graph[module]:
            if found := visit(target, [*trail, module]):
                return found
        finished.add(module)
        return None

    for module in graph:
        if found := visit(module, []):
            return found
    return None


def test_no_circles_of_rooms() -> None:
    """A room is a package directly below app/; its files know those of other rooms in one direction only."""
    graph: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        targets = (module_of(name) for _, name in imported(path, at_run_time=True))
        graph.setdefault(_room(module), set()).update(
            _room(target) for target in targets if target not in (None, "app")
        )
    cycle = _find_cycle({room: sorted(others - {room}) for room, others in graph.items()})
    assert cycle is None, " -> ".join(cycle or [])


def _room(module: str | None) -> str:
    return ".".join((module or "").split(".")[:2])


def test_the_root_of_the_program_reads_as_a_description() -> None:
    rooms = sorted({_room(module) for module, path in MODULES.items() if path.parent.parts[1:]})
    assert len(rooms) <= 16, rooms


def test_no_imports_inside_functions() -> None:
    wrong = [
        f"{where(path, node.lineno)} in {function.name}"
        for path in python_files("app", "tests", "bench")
        if module_name(path) != LATE_IMPORTS
        for function in functions_of(path)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom) or (isinstance(node, ast.Call) and _late_import(node))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_late_imports_are_where_the_guard_looks_the_other_way() -> None:
    late = [name for node in ast.walk(tree_of(MODULES[LATE_IMPORTS])) if (name := _late_import(node))]
    assert late
    assert set(late) <= set(MODULES), "a late import of a module that moved away"


def test_a_late_import_is_seen_however_it_is_written() -> None:
    calls = ("import_module('app.x')", "importlib.import_module('app.x')", "__import__('app.x')", "import_module('y')")
    seen = [_late_import(ast.parse(call, mode="eval").body) for call in calls]
    assert seen == ["app.x", "app.x", "app.x", None]


def test_no_global_statements() -> None:
    wrong = [
        where(path, node.lineno)
        for path in python_files("app", "tests", "bench")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Global)
    ]
    assert not wrong, "\n".join(wrong)


def test_only_settings_reads_the_environment() -> None:
    wrong = [
        where(path, node.lineno)
        for path in APP_FILES
        if module_name(path) != "app.settings"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute | ast.ImportFrom) and _reads_environment(node)
    ]
    assert not wrong, "os.environ is for app/settings/__init__.py:\n" + "\n".join(wrong)


def _reads_environment(node: ast.Attribute | ast.ImportFrom) -> bool:
    names = {"environ", "environb", "getenv", "getenvb", "putenv"}
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any(alias.name in names for alias in node.names)
    return isinstance(node.value, ast.Name) and node.value.id == "os" and node.attr in names


def test_cycles_are_found() -> None:
    assert _find_cycle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    assert _find_cycle({"a": ["b", "c"], "b": ["c"], "c": []}) is None
