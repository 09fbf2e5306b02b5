"""How the console writes numbers and times. Filters take what the contract's JSON holds and never raise on None."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from markupsafe import Markup

MISSING = "—"
MINUS = "−"
SMALLEST = Decimal("0.000001")


def decimal(value: Any) -> Decimal:
    """USD as Decimal; zero for anything that is not a finite number."""
    try:
        amount = Decimal(str(value)) if value is not None else Decimal(0)
    except InvalidOperation:
        return Decimal(0)
    return amount if amount.is_finite() else Decimal(0)


def whole_number(text: str, *, most: int = 1_000_000) -> int | None:
    """Plain digits as a number up to `most`; None for anything else, `²` and numbers without end included."""
    is_plain = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    return int(text) if is_plain and int(text) <= most else None


def money(value: Any) -> str:
    """`$1,049.10`; four decimals below a dollar and six below a cent, since calls cost that little."""
    if value is None:
        return MISSING
    amount = decimal(value)
    size = abs(amount)
    if 0 < size < SMALLEST:
        return f"<${SMALLEST}"
    places = 2 if not size or size >= 1 else 4 if size >= Decimal("0.01") else 6
    return f"{MINUS if amount < 0 else ''}${size:,.{places}f}"


def budget(value: Any) -> str:
    """A ceiling: `$500`, with cents only when it has some."""
    amount = decimal(value)
    return f"${amount:,.0f}" if amount == amount.to_integral_value() else money(amount)


def cost(value: Any) -> str:
    """Of one request: six decimals."""
    if value is None:
        return MISSING
    return f"<${SMALLEST}" if 0 < decimal(value) < SMALLEST else f"${decimal(value):,.6f}"


def axis(ticks: Sequence[Decimal]) -> list[str]:
    """Amounts of an axis, all with the decimals that their step needs."""
    places = max(0, -int(ticks[1].normalize().as_tuple().exponent))
    return [f"${tick:,.{2 if places == 1 else places}f}" for tick in ticks]


def per_million(value: Any) -> str:
    """Price of a million tokens from the price of one; a price of fractions of a cent keeps its significant digits."""
    amount = (decimal(value) * 1_000_000).normalize()
    return f"${amount:,.2f}" if amount == round(amount, 2) else f"${amount:,f}"


def count(value: Any) -> str:
    """Exact, with thousands separators."""
    return MISSING if value is None else f"{int(decimal(value)):,}"


def large(value: Any) -> str:
    """`38.6M`: three digits that can be read at a glance."""
    if value is None:
        return MISSING
    amount = decimal(value)
    for limit, unit in ((Decimal(10**9), "B"), (Decimal(10**6), "M"), (Decimal(10**3), "k")):
        if abs(amount) >= limit * (10 if unit == "k" else 1):
            return f"{(amount / limit):.3g}{unit}"
    return f"{int(amount):,}"


def percent(part: Any, whole: Any, places: int = 0) -> str:
    """`83%`; missing when there is no whole."""
    total = decimal(whole)
    return MISSING if not total else f"{decimal(part) / total * 100:.{places}f}%"


def parse_time(value: Any) -> datetime | None:
    """An ISO time of the contract; one without zone is UTC."""
    if isinstance(value, datetime):
        moment = value
    else:
        try:
            moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
        except ValueError:
            return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def span(delta: timedelta) -> str:
    """`12 s`, `14 min`, `4 h`, `9 d`."""
    seconds = abs(int(delta.total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def lasting(value: Any) -> str:
    """How long since then: `14 min`."""
    moment = parse_time(value)
    return MISSING if moment is None else span(datetime.now(UTC) - moment)


def clock(value: Any) -> str:
    moment = parse_time(value)
    return MISSING if moment is None else f"{moment:%H:%M:%S} UTC"


def day(value: Any) -> str:
    """`19 Feb 2027`."""
    moment = value if isinstance(value, date) and not isinstance(value, datetime) else parse_time(value)
    return MISSING if moment is None else f"{moment.day} {moment:%b %Y}"


def ago(value: Any) -> Markup:
    """`12 s ago` or `in 6 d`, with the exact time as its title."""
    moment = parse_time(value)
    if moment is None:
        return Markup("<span class=quiet>—</span>")
    delta = datetime.now(UTC) - moment
    is_now = abs(delta) < timedelta(seconds=2)
    relative = "now" if is_now else f"{span(delta)} ago" if delta > timedelta() else f"in {span(delta)}"
    return Markup('<time datetime="{}" title="{:%Y-%m-%d %H:%M:%S} UTC">{}</time>').format(
        moment.isoformat(timespec="seconds"), moment, relative
    )


def milliseconds(value: Any) -> str:
    """`412 ms`, `4.81 s`."""
    if value is None:
        return MISSING
    amount = decimal(value)
    return f"{amount:.0f} ms" if amount < 1000 else f"{amount / 1000:.2f} s"


def _share_of(spend: Decimal, ceiling: Decimal) -> int:
    """Whole percent; 100 only when the budget is really spent, and always then: a budget of zero is."""
    if spend >= ceiling:
        return round(spend / ceiling * 100) if ceiling else 100
    return min(round(spend / ceiling * 100), 99)


def metered(row: dict[str, Any]) -> dict[str, Any]:
    """Anything with `spend` and `max_budget`, plus `percent` (None without a budget), `level` and `state`."""
    spend, ceiling = decimal(row.get("spend")), row.get("max_budget")
    percent = None if ceiling is None else _share_of(spend, decimal(ceiling))
    level = "ok" if percent is None or percent < 80 else "warn" if percent < 100 else "over"
    state = "blocked" if row.get("blocked") else "over budget" if level == "over" else "active"
    return {**row, "percent": percent, "level": level, "state": state}


FILTERS = {
    "money": money,
    "budget": budget,
    "axis": axis,
    "cost": cost,
    "per_million": per_million,
    "count": count,
    "large": large,
    "clock": clock,
    "day": day,
    "ago": ago,
    "milliseconds": milliseconds,
    "lasting": lasting,
}
