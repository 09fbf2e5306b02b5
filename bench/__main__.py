"""`make bench`: every server on one core, the load and the provider on the other, fixed counts run to completion.

    python -m bench [--quick] [--lanes small,stream] [--servers hypercorn,granian] [--peers litellm,portkey] [--write]
    python -m bench --install        the peers, each into an environment of its own below bench/.peers

Prints a table of ratios and writes raw figures to bench/results/. `--write` puts the tables into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import lanes, report, targets
from .machine import LOAD_CORE, model_name, pin, rss_mb
from .targets import NotStarted, Target

RESULTS = targets.ROOT / "bench" / "results"
_FIRST_PORT = 4791
_WINDOWS = 2


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line. Lists are separated by commas; `none` is an empty one."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--lanes", type=_list_of(lanes.LANES), default=list(lanes.LANES))
    parser.add_argument("--servers", type=_list_of(("hypercorn", "granian")), default=["hypercorn", "granian"])
    parser.add_argument("--peers", type=_list_of(("litellm", "portkey")), default=["litellm", "portkey"])
    parser.add_argument("--quick", action="store_true", help="few calls: does it run at all?")
    parser.add_argument("--framework", action="store_true", help="measure calls through the web framework as well")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    parser.add_argument("--install", action="store_true", help="install the peers and end")
    return parser.parse_args(arguments)


def _list_of(known: Any) -> Callable[[str], list[str]]:
    def parsed(text: str) -> list[str]:
        names = [] if text == "none" else text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(known)}")
        return names

    return parsed


def main() -> int:
    options = parse(sys.argv[1:])
    if options.install:
        targets.install_peers()
        return 0
    started = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="quarterdeck-bench-"))
    pin(os.getpid(), LOAD_CORE)
    try:
        with targets.provider(directory) as upstream:
            direct = Target("provider", targets.UPSTREAM_PORT, upstream)
            results = measure(options, directory, direct)
    except NotStarted as problem:
        print(problem, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    results["seconds"] = round(time.monotonic() - started)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(report.tables(results))
    print(f"\nraw figures: {path.relative_to(targets.ROOT)}, {results['seconds']} s")
    if options.write:
        report.write(results, targets.ROOT / "docs" / "performance.md")
    return 0


def measure(options: argparse.Namespace, directory: Path, direct: Target) -> dict[str, Any]:
    """All figures: {lane: {target: [figures of each window]}} and what they were taken on."""
    boots = {server: targets.boot_seconds(server, _FIRST_PORT, directory) for server in options.servers}
    running, missing = start(options, directory)
    found: dict[str, dict[str, list[lanes.Figures]]] = {}
    try:
        time.sleep(1 if options.quick else 5)
        idle = {target.name: rss_mb(target.process.pid) for target in running if target.is_ours}
        for lane in options.lanes:
            windows = 1 if lane in lanes.ONCE else _WINDOWS
            for window in range(1, windows + 1):
                for target in [direct, *running]:
                    if (lane in lanes.OURS_ONLY and not target.is_ours) or _is_unreachable(target):
                        continue
                    figures = lanes.run(lane, target, is_quick=options.quick)
                    found.setdefault(lane, {}).setdefault(target.name, []).append(figures)
                    print(f"{lane:<13} {window} {target.name:<24} {_line(figures)}", flush=True)
    finally:
        for target in running:
            target.stop()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        "is_quick": options.quick,
        "python": platform.python_version(),
        "machine": f"{model_name()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "versions": report.versions() | {target.name: target.version for target in running if target.version},
        "missing": missing,
        "boot_seconds": boots,
        "idle_mb": idle,
        "lanes": found,
    }


def start(options: argparse.Namespace, directory: Path) -> tuple[list[Target], dict[str, str]]:
    """Everything at once, so that windows can take turns; and what could not be started, with the reason."""
    ports = iter(range(_FIRST_PORT + 1, _FIRST_PORT + 20))
    starts: dict[str, Callable[[], Target]] = {"floor": lambda: targets.start_floor(next(ports), directory)}
    for server in options.servers:
        starts[f"quarterdeck {server}"] = lambda server=server: targets.start_quarterdeck(  # type: ignore[misc]
            server, next(ports), directory
        )
        if options.framework:
            starts[f"quarterdeck {server}, framework"] = lambda server=server: targets.start_quarterdeck(  # type: ignore[misc]
                server, next(ports), directory, is_direct=False
            )
    if "portkey" in options.peers:
        starts["portkey"] = lambda: targets.start_portkey(next(ports), directory)
    if "litellm" in options.peers:
        starts["litellm"] = lambda: targets.start_litellm(next(ports), directory)
    running: list[Target] = []
    missing: dict[str, str] = {}
    for name, begin in starts.items():
        try:
            running.append(begin())
        except (NotStarted, OSError) as problem:
            missing[name] = str(problem)
            print(f"not measured: {name}: {problem}", file=sys.stderr)
    return running, missing


def _is_unreachable(target: Target) -> bool:
    return target.process.poll() is not None


def _line(figures: lanes.Figures) -> str:
    if "error" in figures:
        return str(figures["error"])
    return "  ".join(f"{name} {value:,.1f}" for name, value in figures.items())


if __name__ == "__main__":
    sys.exit(main())
