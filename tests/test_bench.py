"""The benchmark's arithmetic. What it measures is measured by `make bench`, never by a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import lanes, report
from bench.__main__ import parse

# fixed dates: results of a run that was; they are only printed
RESULTS: dict[str, Any] = {
    "at": "2026-11-22T12:00:00+00:00",
    "seconds": 700,
    "command": "python -m bench",
    "is_quick": False,
    "python": "3.11.7",
    "machine": "a machine",
    "versions": {"quarterdeck": "0.1.0"},
    "missing": {"portkey": "is not installed\nmore"},
    "boot_seconds": {"hypercorn": [1.2, 1.1], "granian": [1.9]},
    "idle_mb": {"quarterdeck hypercorn": [90.0], "quarterdeck granian": [88.0, 30.0]},
    "lanes": {
        "small": {
            "quarterdeck hypercorn": [{"cpu_us": 700.0}, {"cpu_us": 900.0}],
            "quarterdeck granian": [{"cpu_us": 400.0}],
            "litellm": [{"cpu_us": 16_000.0}],
        },
        "latency": {
            "provider": [{"p99_ms": 0.1}],
            "quarterdeck hypercorn": [{"p99_ms": 1.1}, {"p99_ms": 1.3}],
            "quarterdeck granian": [{"error": "HTTP/1.1 500"}],
        },
        "soak": {"quarterdeck granian": [{"kb_per_1000": 9.0, "kb_per_1000_error": 1.0}]},
    },
}


def test_the_command_line_takes_lists() -> None:
    options = parse(["--lanes", "small,soak", "--servers", "granian", "--peers", "none", "--quick"])
    assert (options.lanes, options.servers, options.peers, options.quick) == (["small", "soak"], ["granian"], [], True)
    everything = parse([])
    assert everything.lanes == list(lanes.LANES) and everything.peers == ["litellm", "portkey"]
    with pytest.raises(SystemExit):
        parse(["--lanes", "smal"])


def test_ratios_are_of_the_means_of_the_windows() -> None:
    assert report.ratio(RESULTS, "small", "quarterdeck hypercorn", "litellm") == pytest.approx(800 / 16_000)
    assert report.ratio(RESULTS, "small", "quarterdeck hypercorn", "portkey") is None
    assert report.added_p99_ms(RESULTS, "quarterdeck hypercorn") == pytest.approx(1.1)
    assert report.added_p99_ms(RESULTS, "quarterdeck granian") is None


def test_what_has_a_target_is_judged_and_what_was_not_measured_is_not() -> None:
    found = {(server, what): value <= most for server, what, value, most in report.verdicts(RESULTS)}
    assert found == {
        ("hypercorn", "CPU per call, to litellm"): True,
        ("granian", "CPU per call, to litellm"): False,
        ("hypercorn", "added p99 at concurrency 1, ms"): True,
        ("hypercorn", "boot, s"): True,
        ("granian", "boot, s"): False,
        ("hypercorn", "idle memory of the largest process, MB"): True,
        ("granian", "idle memory of the largest process, MB"): True,
        ("granian", "soak, KB per 1,000 calls"): False,
    }


def test_a_page_shows_the_last_two_runs(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("# Speed\n\n<!-- bench: begin -->\nold\n<!-- bench: end -->\n\n## Lists\n", encoding="utf-8")
    report.write(RESULTS, page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Speed\n\n<!-- bench: begin -->") and text.endswith("<!-- bench: end -->\n\n## Lists\n")
    assert "old" not in text and "| quarterdeck hypercorn | 700 / 900 | 0.050 |" in text
    assert "Not measured: portkey: is not installed\n" in text and "HTTP/1.1 500" in text
    for day in ("23", "24"):
        report.write({**RESULTS, "at": f"2026-11-{day}"}, page)
    runs = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("### ")]
    assert runs == ["### Run of 2026-11-24", "### Run of 2026-11-23"]
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(RuntimeError):
        report.write(RESULTS, page)


def test_a_slope_says_how_sure_it_is() -> None:
    slope, error = lanes._slope([(x, 2.0 * x) for x in range(10)])
    assert slope == pytest.approx(2) and error == pytest.approx(0, abs=1e-9)
    slope, error = lanes._slope([(x, float(x % 2)) for x in range(10)])
    assert abs(slope) < 2 * error
