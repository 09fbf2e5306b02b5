"""Where a pass-through call may go and what it takes along: the words that targets are made of. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from ...errors import GatewayError
from ...spend.pricing import Prices
from .aws_signature import AwsCredentials
from .path import Pairs


class NoCredential(GatewayError):
    """The instance has nothing to call this provider with; `param` is the variable to set. The caller's key is good."""

    status = 503
    type = "service_unavailable_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A deployment that lends its credential (`use_in_pass_through`); `params` with those of its shared credential."""

    id: str
    model_name: str
    upstream_model: str
    params: Mapping[str, Any] = field(repr=False)
    prices: Prices | None = None
    is_stored: bool = False

    def text(self, name: str) -> str | None:
        value = self.params.get(name)
        return str(value).strip() if value not in (None, "") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One address to call. `headers` and `query` hold the credential; `secrets` is what must not come back.

    `defaults`: headers that go along unless the caller sends their own.

    `aws` with `region`: sign the request. `service_account`: send a token of it as bearer. `timeout` in seconds.
    """

    provider: str
    base: str
    path: str
    query: Pairs = field(default_factory=list, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    defaults: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    aws: AwsCredentials | None = None
    region: str = ""
    service_account: str | None = field(default=None, repr=False)
    source: Source | None = None
    model: str = ""
    cost_per_request: Decimal = Decimal(0)
    timeout: float | None = None


def chosen(sources: Sequence[Source], model: str) -> Source | None:
    """The deployment of this model, else the first one."""
    named = (one for one in sources if model and model in (one.model_name, one.upstream_model))
    return next(named, sources[0] if sources else None)


def first(environment: Mapping[str, str], names: Sequence[str]) -> str | None:
    """The first of these variables that says something."""
    return next((environment[name].strip() for name in names if environment.get(name, "").strip()), None)


def origin(base: str) -> str:
    """An address without the slash at its end. Raises NoCredential for one that cannot be meant."""
    try:
        parts = urlsplit(base)
        is_odd = parts.port == 0 or parts.username or parts.query or parts.fragment
    except ValueError:
        is_odd = True
    if is_odd or parts.scheme not in ("http", "https") or not parts.hostname:
        raise NoCredential("The address that is configured for this provider cannot be used")
    return base.rstrip("/")


def missing(variable: str, name: str) -> NoCredential:
    """What to say where there is nothing to call a provider with; `variable` is the one to set."""
    return NoCredential(
        f"This gateway has no credential for /{name}: set {variable}, or give a deployment of this provider "
        "`use_in_pass_through: true`",
        param=variable,
    )
