"""Targets of pass-through calls, and the deployments that lend credentials to them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from ...deployments.deployment import Deployment
from ...errors import GatewayError
from ...spend.pricing import Prices
from .aws_signature import AwsCredentials
from .path import Pairs


class MissingCredential(GatewayError):
    """The instance has no credential for this provider; `param` is the variable to set. The caller's key is valid."""

    status = 503
    type = "service_unavailable_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialSource:
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


def source_of(deployment: Deployment, params: Mapping[str, Any]) -> CredentialSource:
    """A deployment that lends its credential. `params` are in the clear."""
    return CredentialSource(
        id=deployment.id,
        model_name=deployment.public_name,
        upstream_model=deployment.upstream_model,
        params=params,
        prices=deployment.prices,
        is_stored=deployment.is_stored,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One address to call. `headers` and `query` hold the credential; `secrets` must not be sent back to the caller.

    `defaults`: headers that are sent unless the caller sends its own.

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
    source: CredentialSource | None = None
    model: str = ""
    cost_per_request: Decimal = Decimal(0)
    timeout: float | None = None

    @property
    def connection_owner(self) -> tuple[object, ...]:
        """Who its connections belong to: the lending deployment, else the configuration, with its credential."""
        return (self.source.id if self.source is not None else None, *self.secrets, *self.headers.items())


def choose_source(sources: Sequence[CredentialSource], model: str) -> CredentialSource | None:
    """The deployment of this model, else the first one."""
    of_model = (source for source in sources if model and model in (source.model_name, source.upstream_model))
    return next(of_model, sources[0] if sources else None)


def first_variable(environment: Mapping[str, str], names: Sequence[str]) -> str | None:
    """The value of the first of these variables that is set."""
    return next((environment[name].strip() for name in names if environment.get(name, "").strip()), None)


def checked_base(base: str) -> str:
    """A base URL without its trailing slash. Raises MissingCredential for an invalid one."""
    try:
        parts = urlsplit(base)
        is_invalid = parts.port == 0 or parts.username or parts.query or parts.fragment
    except ValueError:
        is_invalid = True
    if is_invalid or parts.scheme not in ("http", "https") or not parts.hostname:
        raise MissingCredential("The address that is configured for this provider cannot be used")
    return base.rstrip("/")


def missing_credential(variable: str, name: str) -> MissingCredential:
    """The error for a provider without a credential; `variable` is the one to set."""
    return MissingCredential(
        f"This gateway has no credential for /{name}: set {variable}, or give a deployment of this provider "
        "`use_in_pass_through: true`",
        param=variable,
    )
