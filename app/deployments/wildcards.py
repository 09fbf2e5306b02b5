"""Model names with a star: `openai/*` serves every name that fits, under the name that the star stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from .deployment import Deployment, listed_price

_STAR = "*"
_MAX_REMEMBERED = 1000


class Patterns:
    """The groups of a catalog whose name has a star. The longest pattern that fits wins."""

    def __init__(self, groups: Iterable[tuple[str, Sequence[Deployment]]]) -> None:
        named = [(name, tuple(members)) for name, members in groups if _STAR in name]
        named.sort(key=lambda group: -len(group[0]))
        self._patterns = [(_expression(name), members) for name, members in named]
        # Bounded: clients may ask for any name.
        self._remembered: dict[str, tuple[Deployment, ...]] = {}

    def behind(self, model: str) -> tuple[Deployment, ...]:
        """The deployments for one name, each for the model that the star stands for. Empty when none fits."""
        if not self._patterns:
            return ()
        found = self._remembered.get(model)
        if found is None:
            found = self._matching(model)
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[model] = found
        return found

    def _matching(self, model: str) -> tuple[Deployment, ...]:
        for expression, members in self._patterns:
            match = expression.fullmatch(model)
            if match is not None:
                return tuple(_narrowed(one, match[1]) for one in members)
        return ()


def _expression(name: str) -> re.Pattern[str]:
    before, _, after = name.partition(_STAR)
    return re.compile(f"{re.escape(before)}(.+){re.escape(after)}")


def _narrowed(deployment: Deployment, part: str) -> Deployment:
    """The deployment for one model: its own prices stay, else those of the model count."""
    if _STAR not in deployment.upstream_model:
        return deployment
    upstream_model = deployment.upstream_model.replace(_STAR, part, 1)
    prices = deployment.prices or listed_price(deployment, upstream_model)
    api_base = deployment.dialect.address_of(deployment.api_base, deployment.upstream_model, upstream_model)
    return replace(deployment, upstream_model=upstream_model, api_base=api_base, prices=prices)
