"""Keys by what they spent: a list in pages, and the largest keys of each model."""

from __future__ import annotations

from collections import defaultdict

from quart import Blueprint, Response

from ...web.fields import bad_request, flag, identifier, read_query, takes, whole
from .daily_activity import DATES, encoded, users_scope
from .daily_figures import Metrics, keys_to_json
from .daily_names import key_names
from .daily_rows import Ranking, Scope, largest, sums_of_keys, totals

blueprint = Blueprint("admin_activity_keys", __name__)

_MAX_KEYS = 1000
_KEYS_OF_A_MODEL = 10
_MAX_MODELS = 50
# Keys are ranked by their largest rows first, then by their sums: more are looked at than are shown.
_SPARE = 2


@blueprint.get("/user/daily/activity/aggregated/keys")
@takes(
    query={
        **DATES,
        "user_id": identifier(),
        "model": identifier(),
        "limit": whole(1, 100),
        "offset": whole(0, _MAX_KEYS),
    }
)
async def keys_by_spend() -> Response:
    """The keys of a range of days, largest first. The list ends after a thousand."""
    asked = read_query(limit=50, offset=0)
    scope = users_scope(asked)
    ranking, _ = await largest(scope)
    end = asked["offset"] + asked["limit"]
    if end > _MAX_KEYS:
        raise bad_request(f"The list ends after {_MAX_KEYS} keys", "offset")
    ordered = _ordered(await _sums(scope, ranking, end))
    shown = ordered[asked["offset"] : end]
    names = await key_names([token for token, _ in shown])
    results = [{"api_key": token, "metrics": sums.to_json(), "metadata": names[token]} for token, sums in shown]
    has_more = len(ranking.spend) > end or ranking.is_cut
    page = {"limit": asked["limit"], "offset": asked["offset"], "has_more": has_more and bool(results)}
    return encoded({"results": results, "metadata": {**page, "total_count": len(ranking.spend)}})


async def _sums(scope: Scope, ranking: Ranking, most: int) -> dict[str, Metrics]:
    rows = await sums_of_keys(scope, ranking.largest(most * _SPARE), ("api_key",))
    return {row[0]: sums for row, sums in rows}


def _ordered(sums: dict[str, Metrics]) -> list[tuple[str, Metrics]]:
    return sorted(sums.items(), key=lambda pair: (-pair[1].spend, pair[0]))


@blueprint.get("/user/daily/activity/aggregated/model_top_keys")
@takes(
    query={
        **DATES,
        "user_id": identifier(),
        "model": identifier(),
        "model_group": identifier(),
        "by_model_group": flag(),
        "limit": whole(1, 100),
    }
)
async def largest_keys_of_models() -> Response:
    """The keys that spent most on each model (or model group), or on the one that was asked for."""
    asked = read_query(by_model_group=False, limit=_KEYS_OF_A_MODEL)
    column = "model_group" if asked["by_model_group"] or asked["model_group"] else "model"
    scope = users_scope(asked)
    names = await _models(scope, column, asked["model_group"])
    ranking, _ = await largest(scope)
    per_model: defaultdict[str, dict[str, Metrics]] = defaultdict(dict)
    tokens = ranking.largest(min(200, asked["limit"] * 5))
    for row, sums in await sums_of_keys(scope, tokens, (column, "api_key")):
        per_model[row[0]][row[1]] = sums
    chosen = {name: dict(_ordered(per_model[name])[: asked["limit"]]) for name in names}
    known = await key_names({token for keys in chosen.values() for token in keys})
    results = [
        {"model": name, "metrics": names[name].to_json(), "api_keys": keys_to_json(keys, known)}
        for name, keys in chosen.items()
    ]
    return encoded({"results": results, "metadata": {"by_model_group": column == "model_group"}})


async def _models(scope: Scope, column: str, only: str | None) -> dict[str, Metrics]:
    """Sums of each model, largest first."""
    rows = await totals(scope, (column,))
    found = {row[0]: sums for row, sums in rows if row[0] and only in (None, row[0])}
    return dict(_ordered(found)[:_MAX_MODELS])
