"""The output of a batch, added up per model while it is read, at the prices of single calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ...deployments.deployment import Deployment
from ...protocols.base import Usage
from ...protocols.batch_output import BatchOutput, Counted
from ...spend.pricing import Prices, listed_prices, price_of
from ..passthrough.usage import usage_of

# A file of ours names five at most; what a provider answers to them is not in our hands.
_MAX_MODELS = 20
_OTHER_MODELS = "other"
_NAME_LENGTH = 255


@dataclass(frozen=True, slots=True)
class BatchModel:
    """A model that the batch names: the group that clients know, and its deployment at the batch's account."""

    group: str
    deployment: Deployment


@dataclass(slots=True)
class ModelSum:
    """What the answers under one name add up to. `source`: the deployment whose prices count, when it is known."""

    group: str
    source: Deployment | None
    prices: Prices | None
    calls: int = 0
    prompt: int = 0
    completion: int = 0
    cache_read: int = 0
    cache_write: int = 0
    input: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    is_unpriced: bool = False

    def add(self, usage: Usage) -> None:
        self.calls += 1
        self.prompt += usage.prompt_tokens
        self.completion += usage.completion_tokens
        self.cache_read += usage.cache_read_tokens
        self.cache_write += usage.cache_write_tokens
        # One by one: a rate may depend on how long the call's own prompt was.
        cost = price_of(usage, self.prices)
        if cost is None:
            self.is_unpriced = True
        else:
            self.input += cost.input
            self.output += cost.output

    @property
    def usage(self) -> Usage:
        """Of all of them together."""
        return Usage(
            prompt_tokens=self.prompt,
            completion_tokens=self.completion,
            cache_read_tokens=self.cache_read,
            cache_write_tokens=self.cache_write,
        )

    @property
    def facts(self) -> dict[str, Any]:
        """For the log."""
        return {"batch_requests": self.calls} | ({"unpriced": True} if self.is_unpriced else {})


class BatchSums:
    def __init__(self, account: Deployment, models: Sequence[BatchModel]) -> None:
        self._account = account
        self._models = models
        self._output = BatchOutput()
        # By the name that the provider answers.
        self.of_models: dict[str, ModelSum] = {}
        # Whether only the beginning of the file was read.
        self.is_truncated = False

    def feed(self, piece: bytes) -> None:
        for counted in self._output.feed(piece):
            self._add(counted)

    def finish(self) -> None:
        for counted in self._output.finish():
            self._add(counted)

    def facts(self) -> dict[str, Any]:
        """What was not billed, for the log."""
        output = self._output
        said = {
            "failed_requests": output.failed,
            "unreadable_lines": output.unreadable,
            "is_truncated": self.is_truncated,
        }
        return {name: value for name, value in said.items() if value}

    def _add(self, counted: Counted) -> None:
        usage = usage_of(counted.counts)
        if usage is None:
            return
        name = counted.model[:_NAME_LENGTH]
        if name not in self.of_models and len(self.of_models) >= _MAX_MODELS:
            name = _OTHER_MODELS
        found = self.of_models.get(name)
        if found is None:
            found = self.of_models[name] = self._new_sum(name)
        found.add(usage)

    def _new_sum(self, answered: str) -> ModelSum:
        """Whom the provider means by a name: it may add a date, and Azure answers the name of the model behind."""
        fitting = [one for one in self._models if _is_named(answered, one.deployment.upstream_model)]
        meant = self._models if len(self._models) == 1 else fitting
        found = max(meant, key=lambda one: len(one.deployment.upstream_model), default=None)
        if found is None and _is_named(answered, self._account.upstream_model):
            found = BatchModel(self._account.model_name, self._account)
        listed = listed_prices(self._account.provider.name, answered)
        if found is None:
            return ModelSum(answered, None, listed)
        return ModelSum(found.group, found.deployment, found.deployment.prices or listed)


def _is_named(answered: str, model: str) -> bool:
    return answered == model or answered.startswith(f"{model}-")
