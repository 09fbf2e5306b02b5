"""What a call costs. The only place where a rate is multiplied.

Rates come from the deployment (custom pricing), else from prices.json by provider and model name. Token classes are
disjoint: cached tokens are taken out of the prompt before the input rate is applied. An unknown price is None, never 0.
What is not counted in tokens (pictures, characters, seconds, searches) has a price of the deployment, or none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ..protocols.base import Usage

_TABLE = Path(__file__).parent / "prices.json"
_MILLION = Decimal(1_000_000)
# Twelve places: what the database stores.
_UNIT = Decimal("0.000000000001")
# Our provider names where the price table has others.
_TABLE_NAMES = {
    "xai": "x-ai",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "vertex_ai": "google",
    "bedrock": "aws",
}
# Resellers at the makers' prices: the table lists under their own names only what differs.
_PRICED_LIKE = {
    "azure": ("openai", "anthropic", "deepseek", "x-ai"),
    "gemini": ("anthropic",),
    "vertex_ai": ("anthropic",),
}
# An estimate for calls that do not say how much they may answer.
_ASSUMED_COMPLETION_TOKENS = 1024
_BYTES_PER_TOKEN = 4
# No model answers more; a client may ask for any number.
_MAX_COMPLETION_TOKENS = 10_000_000
# What providers take for calls that they may answer within a day.
_BATCH_SHARE = Decimal("0.5")
# Beyond them a price is a mistake or an attack. The dearest models take less than a thousandth of a dollar per token.
_MAX_PER_TOKEN, _MAX_PER_UNIT = 10, 1000
# Every name of a price, also of those that are not read here: none may hold what is no amount.
_PRICE_NAME = re.compile(r"_cost_per_|_token_cost|_cost$")


@dataclass(frozen=True, slots=True)
class Rate:
    """USD per token. A tier applies to the whole call once its prompt has that many tokens."""

    base: Decimal
    tiers: tuple[tuple[int, Decimal], ...] = ()

    def at(self, prompt_tokens: int) -> Decimal:
        price = self.base
        for start, tier_price in self.tiers:
            if prompt_tokens >= start:
                price = tier_price
        return price


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRates:
    """USD per unit, None where it is not known."""

    image: Decimal | None = None
    character: Decimal | None = None
    second: Decimal | None = None
    query: Decimal | None = None


_NO_UNITS = UnitRates()
# Where two keys may hold the price of a unit, the first that is set counts: a unit is never billed twice.
_UNIT_KEYS = {
    "image": ("output_cost_per_image", "input_cost_per_image"),
    "character": ("input_cost_per_character",),
    "second": ("input_cost_per_second", "output_cost_per_second"),
    "query": ("input_cost_per_query",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Rates of one deployment. Without a rate of their own, cached tokens cost what other input does.

    `counts_tokens` False: only units have a price, and tokens none that is known.
    """

    input: Rate
    output: Rate
    cache_read: Rate | None = None
    cache_write: Rate | None = None
    max_input_tokens: int | None = None
    units: UnitRates = _NO_UNITS
    counts_tokens: bool = True
    # Whether nothing that is called there can cost anything.
    are_free: bool = field(init=False)

    def __post_init__(self) -> None:
        units = self.units
        per_token = (self.input.base, self.input.tiers, self.output.base, self.output.tiers)
        can_cost = any((*per_token, units.image, units.character, units.second, units.query))
        object.__setattr__(self, "are_free", not can_cost)


@dataclass(frozen=True, slots=True)
class Cost:
    """USD of one call and of its two sides."""

    total: Decimal
    input: Decimal
    output: Decimal


def custom_prices(params: Mapping[str, Any]) -> Prices | None:
    """Prices of a deployment's own parameters (USD per token or unit), or None when it sets none.

    Raises ValueError for an amount that is none: negative, infinite, not a number, or beyond every price there is.
    """
    for name, value in params.items():
        if value is not None and not isinstance(value, Mapping | list | tuple) and _PRICE_NAME.search(str(name)):
            _amount(str(name), value)
    names = (
        "input_cost_per_token",
        "output_cost_per_token",
        "cache_read_input_token_cost",
        "cache_creation_input_token_cost",
    )
    given = {name: _amount(name, params[name]) for name in names if params.get(name) is not None}
    units = _unit_rates(params)
    counts_tokens = "input_cost_per_token" in given or "output_cost_per_token" in given
    if not counts_tokens and units == _NO_UNITS:
        return None
    prices = Prices(
        input=Rate(given.get("input_cost_per_token", Decimal(0))),
        output=Rate(given.get("output_cost_per_token", Decimal(0))),
        cache_read=Rate(given[names[2]]) if names[2] in given else None,
        cache_write=Rate(given[names[3]]) if names[3] in given else None,
        units=units,
        counts_tokens=counts_tokens,
    )
    return _interned(prices)


@lru_cache(maxsize=4096)
def _interned(prices: Prices) -> Prices:
    """One object for equal prices: what is asked of several deployments is then computed once."""
    return prices


def _unit_rates(params: Mapping[str, Any]) -> UnitRates:
    rates: dict[str, Decimal] = {}
    for unit, names in _UNIT_KEYS.items():
        for name in names:
            if params.get(name) is not None:
                rates.setdefault(unit, _amount(name, params[name]))
    return UnitRates(**rates)


def _amount(name: str, value: Any) -> Decimal:
    try:
        amount = Decimal(str(value))
    except ArithmeticError:
        raise ValueError(f"{name} is not an amount in USD, as 0.0000025") from None
    most = _MAX_PER_TOKEN if "token" in name else _MAX_PER_UNIT
    if not amount.is_finite() or not 0 <= amount <= most:
        raise ValueError(f"{name} must be zero or more USD, and at most {most}")
    return amount


@lru_cache(maxsize=4096)
def listed_prices(provider: str, model: str) -> Prices | None:
    """Prices of the bundled table, or None for a model that it does not know."""
    for name in (_TABLE_NAMES.get(provider, provider), *_PRICED_LIKE.get(provider, ())):
        for row in _table().get(name, ()):
            if row["id"] == model or _matches(row["match"], model):
                rates: dict[str, Any] = {side: _rate(value) for side, value in row["rates"].items()}
                rates.setdefault("output", Rate(Decimal(0)))
                return Prices(**rates, max_input_tokens=row["max_input_tokens"])
    return None


def known_models(provider: str) -> tuple[str, ...]:
    """The names of a provider's models in the bundled table."""
    return tuple(row["id"] for row in _table().get(_TABLE_NAMES.get(provider, provider), ()))


@lru_cache(maxsize=1)
def _table() -> dict[str, list[dict[str, Any]]]:
    table: dict[str, list[dict[str, Any]]] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return table


def _rate(value: Any) -> Rate:
    if isinstance(value, dict):
        tiers = tuple((start, Decimal(price) / _MILLION) for start, price in value["tiers"])
        return Rate(Decimal(value["base"]) / _MILLION, tiers)
    return Rate(Decimal(value) / _MILLION)


def _matches(clause: Mapping[str, Any], model: str) -> bool:
    ((kind, value),) = clause.items()
    match kind:
        case "or":
            return any(_matches(item, model) for item in value)
        case "and":
            return all(_matches(item, model) for item in value)
        case "equals":
            return bool(model == value)
        case "starts_with":
            return model.startswith(str(value))
        case "ends_with":
            return model.endswith(str(value))
        case "contains":
            return str(value) in model
        case "regex":
            return re.search(value, model) is not None
    raise ValueError(f"prices.json has a clause that we do not know: {kind}")


def price_of(usage: Usage, prices: Prices | None) -> Cost | None:
    """The cost of a call, or None when something of what it used has no known price."""
    if prices is None:
        return None
    if usage.total_tokens and prices.counts_tokens:
        return cost_of(usage, prices)
    is_known = all(rate is not None for amount, rate in _units(usage, prices.units) if amount)
    has_units = any(amount for amount, _ in _units(usage, prices.units))
    if not is_known or (usage.total_tokens and not has_units):
        return None
    return cost_of(usage, prices)


def _units(usage: Usage, rates: UnitRates) -> tuple[tuple[Decimal | int, Decimal | None], ...]:
    return (
        (usage.images, rates.image),
        (usage.characters, rates.character),
        (usage.seconds, rates.second),
        (usage.queries, rates.query),
    )


def cost_of(usage: Usage, prices: Prices) -> Cost:
    """The cost of a call, what has no price left out. Who counts tokens, and has a price for them, is billed by them.

    Each side is rounded once, to what the database stores, so that the parts sum to the total.
    """
    if not (usage.total_tokens and prices.counts_tokens):
        (images, per_image), *input_units = _units(usage, prices.units)
        input_cost = _rounded(sum((amount * rate for amount, rate in input_units if rate is not None), Decimal(0)))
        output_cost = _rounded(images * (per_image or Decimal(0)))
        return Cost(input_cost + output_cost, input_cost, output_cost)
    prompt = usage.prompt_tokens
    cached = min(usage.cache_read_tokens, prompt)
    written = min(usage.cache_write_tokens, prompt - cached)
    input_rate = prices.input.at(prompt)
    input_cost = (
        (prompt - cached - written) * input_rate
        + cached * (prices.cache_read.at(prompt) if prices.cache_read else input_rate)
        + written * (prices.cache_write.at(prompt) if prices.cache_write else input_rate)
    )
    input_cost = _rounded(input_cost)
    output_cost = _rounded(usage.completion_tokens * prices.output.at(prompt))
    return Cost(input_cost + output_cost, input_cost, output_cost)


def batch_cost(cost: Cost) -> Cost:
    """What calls cost that ran in a batch, by what they would have cost one by one."""
    input_cost, output_cost = _rounded(cost.input * _BATCH_SHARE), _rounded(cost.output * _BATCH_SHARE)
    return Cost(input_cost + output_cost, input_cost, output_cost)


def estimate_of(
    body_bytes: int, max_tokens: int | None, prices: Prices | None, *, choices: int = 1, asked: Usage | None = None
) -> Decimal:
    """What to hold for a call before it runs: prompt by its size, answer by its limit. Unpriced calls hold nothing.

    `asked`: the units that the call asks for. A model may be billed by them or by tokens: the dearer is held.
    """
    if prices is None:
        return Decimal(0)
    prompt = body_bytes // _BYTES_PER_TOKEN
    each = _ASSUMED_COMPLETION_TOKENS if max_tokens is None else max_tokens
    completion = min(each * choices, _MAX_COMPLETION_TOKENS)
    tokens = Usage(prompt_tokens=prompt, completion_tokens=completion)
    by_tokens = cost_of(tokens, prices).total
    return by_tokens if asked is None else max(by_tokens, cost_of(_only_units(asked), prices).total)


def _only_units(usage: Usage) -> Usage:
    return replace(usage, prompt_tokens=0, completion_tokens=0)


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(_UNIT)
