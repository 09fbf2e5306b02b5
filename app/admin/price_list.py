"""The bundled prices in the shape of the field's model map: model -> provider, mode, USD per token, context window."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from quart import Blueprint, Response

from .. import spend
from ..spend.pricing import Prices, listed_prices

blueprint = Blueprint("admin_price_list", __name__)

_TABLE = Path(spend.__file__).parent / "prices.json"
# The map's words where our table has others; models of the first two stand in it without a provider before them.
_PROVIDERS = {
    "x-ai": "xai",
    "together": "together_ai",
    "fireworks": "fireworks_ai",
    "google": "gemini",
    "aws": "bedrock",
}
_WITHOUT_PREFIX = ("openai", "anthropic")
_ONE_DAY = "public, max-age=86400"


@blueprint.get("/public/litellm_model_cost_map")
async def model_cost_map() -> Response:
    return Response(price_list(), mimetype="application/json", headers={"Cache-Control": _ONE_DAY})


@lru_cache(maxsize=1)
def price_list() -> bytes:
    """The whole list as JSON, written once in the life of a process."""
    table: dict[str, list[dict[str, Any]]] = msgspec.json.decode(_TABLE.read_bytes())
    rows: dict[str, Any] = {}
    for name, models in table.items():
        provider = _PROVIDERS.get(name, name)
        for model in models:
            prices = listed_prices(name, model["id"])
            if prices is not None:
                key = model["id"] if name in _WITHOUT_PREFIX else f"{provider}/{model['id']}"
                rows.setdefault(key, _row(provider, model["id"], prices))
    return msgspec.json.encode(rows)


def _row(provider: str, model: str, prices: Prices) -> dict[str, Any]:
    row = {
        "litellm_provider": provider,
        "mode": "embedding" if "embed" in model else "chat",
        "input_cost_per_token": float(prices.input.base),
        "output_cost_per_token": float(prices.output.base),
        "max_input_tokens": prices.max_input_tokens,
        "max_tokens": prices.max_input_tokens,
    }
    if prices.cache_read is not None:
        row["cache_read_input_token_cost"] = float(prices.cache_read.base)
    if prices.cache_write is not None:
        row["cache_creation_input_token_cost"] = float(prices.cache_write.base)
    return row
