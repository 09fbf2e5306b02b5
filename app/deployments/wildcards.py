"""Wildcard model names: `openai/*` serves every model that matches, each under its own name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..spend.pricing import known_models
from .deployment import Deployment, listed_price

_WILDCARD = "*"
_MAX_CACHED = 1000


class WildcardGroups:
    """The model groups of a catalog whose name has a wildcard. The longest one that matches wins."""

    def __init__(self, groups: Iterable[tuple[str, Sequence[Deployment]]]) -> None:
        wildcards = [(name, tuple(members)) for name, members in groups if _WILDCARD in name]
        wildcards.sort(key=lambda group: -len(group[0]))
        self._patterns = [(_compile(name), members) for name, members in wildcards]
        self._by_name = dict(wildcards)
        # Bounded: clients may ask for any name.
        self._matches: dict[str, tuple[Deployment, ...]] = {}

    def matching(self, model: str) -> tuple[Deployment, ...]:
        """The deployments for a model name, with that model in place of the wildcard. Empty when none matches."""
        if not self._patterns:
            return ()
        deployments = self._matches.get(model)
        if deployments is None:
            deployments = self._find(model)
            if len(self._matches) >= _MAX_CACHED:
                self._matches.clear()
            self._matches[model] = deployments
        return deployments

    def known_models(self, name: str) -> list[str]:
        """The models that one of these groups is known to serve, as clients ask for them."""
        return list(
            dict.fromkeys(
                name.replace(_WILDCARD, match[1], 1)
                for member in self._by_name.get(name, ())
                if _WILDCARD in member.upstream_model and not member.is_blocked
                for model in known_models(member.provider.name)
                if (match := _compile(member.upstream_model).fullmatch(model)) is not None
            )
        )

    def _find(self, model: str) -> tuple[Deployment, ...]:
        for pattern, members in self._patterns:
            match = pattern.fullmatch(model)
            if match is not None:
                return tuple(_for_model(member, match[1]) for member in members)
        return ()


def _compile(name: str) -> re.Pattern[str]:
    before, _, after = name.partition(_WILDCARD)
    return re.compile(f"{re.escape(before)}(.+){re.escape(after)}")


def _for_model(deployment: Deployment, part: str) -> Deployment:
    """The deployment for one model, with its own prices, else those of the model."""
    if _WILDCARD not in deployment.upstream_model:
        return deployment
    upstream_model = deployment.upstream_model.replace(_WILDCARD, part, 1)
    prices = deployment.prices or listed_price(deployment, upstream_model)
    api_base = deployment.dialect.address_of(deployment.api_base, deployment.upstream_model, upstream_model)
    return replace(deployment, upstream_model=upstream_model, api_base=api_base, prices=prices)
