"""Totals as Prometheus reads them: text format 0.0.4. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import accumulate

from .counts import CALLER_LABELS, Totals
from .families import OVERHEAD_BUCKETS, Family, Plan

Labels = Mapping[str, str]
Sample = tuple[Labels, float | int | Decimal]


def call_families(plan: Plan, totals: Totals, *, shows_callers: bool) -> Iterator[str]:
    """The metrics of calls. Without `shows_callers` those labels are summed over that tell callers apart."""
    for family in plan.families:
        labels = [name for name in family.labels if shows_callers or name not in CALLER_LABELS]
        positions = [plan.labels.index(name) for name in labels]
        if family.kind == "histogram":
            yield from _histogram(family, labels, positions, plan, totals)
        else:
            yield from _counter(family, labels, positions, totals)


def _counter(family: Family, labels: Sequence[str], positions: Sequence[int], totals: Totals) -> Iterator[str]:
    sums: dict[tuple[str, ...], int | Decimal] = {}
    for key, cell in totals.cells.items():
        value = family.read(cell)
        assert isinstance(value, int | Decimal)
        if value:
            place = tuple(key[position] for position in positions)
            sums[place] = sums.get(place, 0) + value
    yield from lines(
        family.name, "counter", family.doc, ((dict(zip(labels, place, strict=True)), sums[place]) for place in sums)
    )


def _histogram(
    family: Family, labels: Sequence[str], positions: Sequence[int], plan: Plan, totals: Totals
) -> Iterator[str]:
    bounds = OVERHEAD_BUCKETS if family.name.startswith("litellm_overhead") else plan.bounds
    sums: dict[tuple[str, ...], list[float]] = {}
    for key, cell in totals.cells.items():
        counts = family.read(cell)
        assert isinstance(counts, list)
        if counts:
            place = tuple(key[position] for position in positions)
            known = sums.get(place)
            sums[place] = counts if known is None else [a + b for a, b in zip(known, counts, strict=True)]
    if not sums:
        return
    yield from _head(family.name, "histogram", family.doc)
    for place, counts in sums.items():
        own = dict(zip(labels, place, strict=True))
        running = list(accumulate(counts[:-1]))
        for bound, count in zip((*bounds, math.inf), running, strict=True):
            yield _line(f"{family.name}_bucket", {**own, "le": number(bound)}, count)
        yield _line(f"{family.name}_sum", own, counts[-1])
        yield _line(f"{family.name}_count", own, running[-1])


def lines(name: str, kind: str, doc: str, samples: Iterable[Sample]) -> Iterator[str]:
    """One counter or gauge; nothing without samples. A counter's name gets the suffix that the format wants."""
    name = f"{name}_total" if kind == "counter" and not name.endswith("_total") else name
    has_head = False
    for labels, value in samples:
        if not has_head:
            yield from _head(name, kind, doc)
            has_head = True
        yield _line(name, labels, value)


def _head(name: str, kind: str, doc: str) -> Iterator[str]:
    yield f"# HELP {name} {doc}\n"
    yield f"# TYPE {name} {kind}\n"


def _line(name: str, labels: Labels, value: float | int | Decimal) -> str:
    written = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items() if text)
    return f"{name}{{{written}}} {number(value)}\n" if written else f"{name} {number(value)}\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def number(value: float | int | Decimal) -> str:
    """A value as short as it can be written: `5`, `0.25`, `+Inf`."""
    if value == math.inf:
        return "+Inf"
    if isinstance(value, Decimal):
        return f"{value.normalize():f}" if value else "0"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(round(value, 6))
    return str(value)
