"""Rewrite app/spend/prices.json from the genai-prices package (MIT), which is a development dependency only.

Loaded whole it costs a process 56 MB and 90 µs a call; this extract of the providers that we route to costs neither.
Run `make prices` after raising the version of genai-prices, and read the diff: it is money.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from genai_prices import data_snapshot

TARGET = Path(__file__).parent.parent / "app" / "spend" / "prices.json"
PROVIDERS = (
    "openai azure groq mistral deepseek together fireworks openrouter x-ai anthropic google aws cohere perplexity"
).split()
RATES = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
}


def main() -> None:
    now = datetime.now(UTC)
    snapshot = data_snapshot.get_snapshot()
    table = {
        provider.id: [row for model in provider.models if (row := extract(model, now)) is not None]
        for provider in snapshot.providers
        if provider.id in PROVIDERS
    }
    TARGET.write_text(json.dumps(table, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{sum(map(len, table.values()))} models of {len(table)} providers -> {TARGET}")


def extract(model: Any, now: datetime) -> dict[str, Any] | None:
    prices = model.get_prices(now)
    rates = {
        name: rate for name, attribute in RATES.items() if (rate := as_rate(getattr(prices, attribute))) is not None
    }
    if "input" not in rates:
        return None
    return {"id": model.id, "match": clause(model.match), "max_input_tokens": model.context_window, "rates": rates}


def as_rate(price: Any) -> Any:
    """USD per million tokens: one number as text, or a base with `[from_prompt_tokens, number]` tiers."""
    if price is None:
        return None
    if hasattr(price, "tiers"):
        return {"base": str(price.base), "tiers": [[tier.start, str(tier.price)] for tier in price.tiers]}
    return str(price)


def clause(match: Any) -> Any:
    """`{"equals": …}`, `{"or": […]}` and so on, as genai-prices names its clauses."""
    ((name, value),) = vars(match).items()
    name = name.rstrip("_")
    return {name: [clause(item) for item in value] if isinstance(value, list) else value}


if __name__ == "__main__":
    main()
