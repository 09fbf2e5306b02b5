"""From raw figures to tables: ratios, the targets and whether they are met, and the section of docs/performance.md."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Results = dict[str, Any]

_BEGIN, _END = "<!-- bench: begin -->", "<!-- bench: end -->"
_RUN = "### Run of "
_PACKAGES = ("quarterdeck", "quart", "hypercorn", "granian", "uvloop", "httptools", "msgspec")

# server -> lane, figure of ours, what it is compared with, most that the ratio may be.
_RATIOS = (
    ("small", "litellm", {"hypercorn": 1 / 14, "granian": 1 / 50}),
    ("small", "portkey", {"hypercorn": 1 / 1.5, "granian": 1 / 5}),
    ("stream", "floor", {"hypercorn": 3.5, "granian": 2.0}),
)
_ADDED_P99_MS = {"hypercorn": 2.0, "granian": 1.0}
_WORST_GAP_MS = {"hypercorn": 100.0, "granian": 50.0}
_BOOT_SECONDS = 1.5
_IDLE_MB = 100.0
# Of a soak: more than this, and more than twice its own uncertainty, is a leak.
_LEAK_KB_PER_1000 = 5.0


def versions() -> dict[str, str]:
    """Of what runs in our own environment."""
    installed = {}
    for name in _PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def figure(results: Results, lane: str, target: str, name: str) -> list[float]:
    """One figure of each good window; empty when it was not measured."""
    windows = results["lanes"].get(lane, {}).get(target, [])
    return [float(window[name]) for window in windows if name in window]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def ratio(results: Results, lane: str, ours: str, other: str, name: str = "cpu_us") -> float | None:
    """Ours to theirs, over the means of the windows; None when one of them is missing."""
    mine, theirs = figure(results, lane, ours, name), figure(results, lane, other, name)
    return mean(mine) / mean(theirs) if mine and theirs and mean(theirs) else None


def added_p99_ms(results: Results, target: str) -> float | None:
    """What a server adds to the slowest of a hundred calls: its p99 less the provider's own."""
    mine, direct = figure(results, "latency", target, "p99_ms"), figure(results, "latency", "provider", "p99_ms")
    return mean(mine) - mean(direct) if mine and direct else None


def verdicts(results: Results) -> Iterator[tuple[str, str, float, float]]:
    """(server, what, measured, target) of everything that has a target; less is better in all."""
    for server in ("hypercorn", "granian"):
        name = f"quarterdeck {server}"
        for lane, other, most in _RATIOS:
            measured = ratio(results, lane, name, other)
            if measured is not None:
                yield server, f"CPU per {'chunk' if lane == 'stream' else 'call'}, to {other}", measured, most[server]
        added = added_p99_ms(results, name)
        if added is not None:
            yield server, "added p99 at concurrency 1, ms", added, _ADDED_P99_MS[server]
        gap = figure(results, "slow streams", name, "worst_gap_ms")
        if gap:
            yield server, "512 streams: worst gap beyond the provider's, ms", max(gap), _WORST_GAP_MS[server]
        boots = results["boot_seconds"].get(server)
        if boots:
            yield server, "boot, s", min(boots), _BOOT_SECONDS
        idle = results["idle_mb"].get(name)
        if idle:
            yield server, "idle memory of the largest process, MB", max(idle), _IDLE_MB
        slope = figure(results, "soak", name, "kb_per_1000")
        if slope:
            error = figure(results, "soak", name, "kb_per_1000_error")[0]
            yield server, "soak, KB per 1,000 calls", slope[0], max(_LEAK_KB_PER_1000, 2 * error)


def tables(results: Results) -> str:
    """Everything as Markdown."""
    facts = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    note = " (quick: too few calls to mean much)" if results["is_quick"] else ""
    lines = [
        f"Measured {results['at']} in {results.get('seconds', 0)} s on {results['machine']}, "
        f"Python {results['python']}, by `{results['command']}`{note}",
        "",
        facts + ".",
        "",
        "| target | hypercorn | granian |",
        "|---|---|---|",
        *_target_rows(results),
    ]
    for lane, measured in results["lanes"].items():
        lines += ["", f"**{lane}**", "", *_lane_table(results, lane, measured)]
    for name, problem in results["missing"].items():
        lines += ["", f"Not measured: {name}: {problem.splitlines()[0]}"]
    return "\n".join(lines)


def _target_rows(results: Results) -> list[str]:
    cells: dict[str, dict[str, str]] = {}
    for server, what, measured, most in verdicts(results):
        mark = "met" if measured <= most else "**missed**"
        cells.setdefault(what, {})[server] = f"{_short(measured)} (≤ {_short(most)}, {mark})"
    return [f"| {what} | {row.get('hypercorn', '')} | {row.get('granian', '')} |" for what, row in cells.items()]


def _lane_table(results: Results, lane: str, measured: dict[str, list[dict[str, Any]]]) -> list[str]:
    names = list(dict.fromkeys(name for windows in measured.values() for window in windows for name in window))
    names = [name for name in names if name != "error"]
    others = [other for other in ("floor", "portkey", "litellm") if "cpu_us" in names and other in measured]
    lines = [
        "| server | " + " | ".join(names) + "".join(f" | to {other}" for other in others) + " |",
        "|---|" + "---:|" * (len(names) + len(others)),
    ]
    for target, windows in measured.items():
        errors = [window["error"] for window in windows if "error" in window]
        if errors:
            lines.append(f"| {target} | {errors[0]} |" + " |" * (len(names) + len(others) - 1))
            continue
        cells = [" / ".join(_short(window[name]) for window in windows) for name in names]
        ratios = [ratio(results, lane, target, other) for other in others]
        cells += ["" if value is None else f"{value:.3f}" if value < 1 else f"{value:.1f}" for value in ratios]
        lines.append(f"| {target} | " + " | ".join(cells) + " |")
    return lines


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def write(results: Results, page: Path) -> None:
    """Put the tables between the marks of a page, before those of the run that was written last.

    RuntimeError for a page without marks.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(_BEGIN)
    shown, end, after = rest.partition(_END)
    if not (begin and end):
        raise RuntimeError(f"{page} has no place for the tables: {_BEGIN} … {_END}")
    last = [f"{_RUN}{run.strip()}" for run in shown.split(_RUN)[1:2]]
    runs = "\n\n".join([f"{_RUN}{results['at']}\n\n{tables(results)}", *last])
    page.write_text(f"{before}{_BEGIN}\n\n{runs}\n\n{_END}{after}", encoding="utf-8")
