"""Geometry of the server-drawn SVG charts. Pure: numbers in, shapes out; text and colours are the template's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

WIDTH, GAP = 600.0, 0.17
SPARK_WIDTH, SPARK_HEIGHT = 240.0, 36.0


@dataclass(frozen=True)
class Bar:
    series: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Column:
    """One day: its bars from the bottom up, the hover area and the text of its tooltip."""

    day: date
    x: float
    width: float
    bars: tuple[Bar, ...]
    parts: tuple[tuple[str, Decimal], ...]
    total: Decimal
    is_partial: bool


@dataclass(frozen=True)
class Chart:
    height: float
    columns: tuple[Column, ...]
    ticks: tuple[Decimal, ...]
    names: tuple[str, ...]
    label_every: int

    def grid(self, index: int) -> float:
        """The y of a grid line; the outer ones stay half a pixel inside."""
        return min(max(self.height * (1 - index / (len(self.ticks) - 1)), 0.5), self.height - 0.5)


def nice_ticks(top: Decimal) -> tuple[Decimal, ...]:
    """From zero to at least `top` in four or five even steps of 1, 2 or 5 times a power of ten."""
    if top <= 0:
        return (Decimal(0), Decimal(1))
    rough = top / 4
    power = Decimal(10) ** rough.adjusted()
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return tuple(step * index for index in range(math.ceil(top / step) + 1))


def stacked(
    days: Sequence[tuple[date, Sequence[Decimal]]], names: Sequence[str], *, height: float = 240.0, today: date
) -> Chart:
    """One column per day with a bar per series. Series above the fifth must be summed into it by the caller."""
    ticks = nice_ticks(max((sum(values, Decimal(0)) for _, values in days), default=Decimal(0)))
    scale = (height - 0.5) / float(ticks[-1])
    width = WIDTH / max(len(days), 1)
    columns = []
    for index, (day, values) in enumerate(days):
        x, y, bars = index * width, height - 0.5, []
        for series, value in enumerate(values, 1):
            tall = float(value) * scale
            if tall > 0:
                y -= tall
                bars.append(Bar(series, x + width * GAP, y, width * (1 - 2 * GAP), max(tall - 1, 0.4)))
        parts = tuple((name, value) for name, value in zip(names, values, strict=True) if value)
        total = sum(values, Decimal(0))
        columns.append(Column(day, x, width, tuple(bars), parts, total, day == today))
    return Chart(height, tuple(columns), ticks, tuple(names), max(1, round(len(days) / 5)))


def spark(values: Sequence[int]) -> list[Bar]:
    """Small bars from zero, the newest at the right."""
    if not values:
        return []
    width, top = SPARK_WIDTH / max(len(values), 7), max(max(values), 1)
    first = SPARK_WIDTH - width * len(values)
    return [
        Bar(1, first + index * width + width * 0.08, SPARK_HEIGHT - tall, width * 0.84, tall)
        for index, value in enumerate(values)
        for tall in [max(SPARK_HEIGHT * value / top, 1.0 if value else 0.0)]
    ]
