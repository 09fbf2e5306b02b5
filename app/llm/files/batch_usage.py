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

# A batch file names five at most, but a provider may answer with other names.
_MAX_MODELS = 20
_OTHER_MODELS = "other"
_NAME_LENGTH = 255


@dataclass(frozen=True, slots=True)
class BatchModel:
    """A model that the batch names: the group that clients know, and its deployment at the batch's account."""

    group: str
    deployment: Deployment


@dataclass(slots=True)
class ModelTotals:
    """Totals of one model of the output. `source`: the deployment whose prices apply, when it is known."""

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
        # Per call: a rate may depend on the length of the prompt.
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


class BatchTotals:
    def __init__(self, account: Deployment, models: Sequence[BatchModel]) -> None:
        self._account = account
        self._models = models
        self._output = BatchOutput()
        # By the model name in the provider's output.
        self.by_model: dict[str, ModelTotals] = {}
        # Whether only the beginning of the file was read.
        self.is_truncated = False

    def feed(self, piece: bytes) -> None:
        for counted in self._output.feed(piece):
            self._add(counted)

    def finish(self) -> None:
        for counted in self._output.finish():
            self._add(counted)

    def facts(self) -> dict[str, Any]:
        """What was not billed, for the log and the metadata."""
        output = self._output
        facts = {
            "failed_requests": output.failed,
            "unreadable_lines": output.unreadable,
            "is_truncated": self.is_truncated,
        }
        return {name: value for name, value in facts.items() if value}

    def _add(self, counted: Counted) -> None:
        usage = usage_of(counted.counts)
        if usage is None:
            return
        name = counted.model[:_NAME_LENGTH]
        if name not in self.by_model and len(self.by_model) >= _MAX_MODELS:
            name = _OTHER_MODELS
        totals = self.by_model.get(name)
        if totals is None:
            totals = self.by_model[name] = self._new_totals(name)
        totals.add(usage)

    def _new_totals(self, model_name: str) -> ModelTotals:
        """Totals for a name in the output: providers may add a date, and Azure uses the name of the base model."""
        by_name = [model for model in self._models if _is_named(model_name, model.deployment.upstream_model)]
        matching = self._models if len(self._models) == 1 else by_name
        found = max(matching, key=lambda model: len(model.deployment.upstream_model), default=None)
        if found is None and _is_named(model_name, self._account.upstream_model):
            found = BatchModel(self._account.model_name, self._account)
        listed = listed_prices(self._account.provider.name, model_name)
        if found is None:
            return ModelTotals(model_name, None, listed)
        return ModelTotals(found.group, found.deployment, found.deployment.prices or listed)


def _is_named(model_name: str, model: str) -> bool:
    return model_name == model or model_name.startswith(f"{model}-")
