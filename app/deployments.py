"""Deployments: which provider targets stand behind each model name, from the configuration file and the database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import structlog

from .auth.credentials import decrypt, encrypt
from .config_file import SettingsError
from .db import Database
from .models import StoredDeployment
from .providers import Provider, split_model
from .settings import Settings
from .spend.pricing import Prices, custom_prices, listed_prices

log = structlog.get_logger(__name__)

# Parameters of a deployment that steer the gateway; everything else is a default for the request body.
_CONTROL = frozenset(
    "model api_base base_url api_key api_version organization custom_llm_provider timeout stream_timeout rpm tpm "
    "weight max_retries num_retries extra_headers extra_body input_cost_per_token output_cost_per_token "
    "cache_read_input_token_cost cache_creation_input_token_cost mock_response order tags max_parallel_requests "
    "cooldown_time max_budget budget_duration use_in_pass_through drop_params additional_drop_params guardrails".split()
)
# Shorter values, as the `none` of a local server, are no credentials.
_SHORTEST_SECRET = 8
_SECRET_WORDS = ("key", "secret", "token", "password", "credential", "headers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One provider target behind a model name. Seconds for times, USD per token for prices."""

    id: str
    model_name: str
    provider: Provider
    upstream_model: str
    api_base: str
    headers: Mapping[str, str] = field(repr=False)
    params: Mapping[str, Any] = field(repr=False)
    model_info: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict, repr=False)
    query: str = ""
    weight: float | None = None
    rpm: float | None = None
    tpm: float | None = None
    timeout: float | None = None
    stream_timeout: float | None = None
    mock_response: str | None = None
    prices: Prices | None = None
    is_stored: bool = False

    @property
    def input_cost_per_token(self) -> Decimal | None:
        return self.prices.input.base if self.prices else None

    @property
    def output_cost_per_token(self) -> Decimal | None:
        return self.prices.output.base if self.prices else None

    def url(self, endpoint: str) -> str:
        """The provider's address of an endpoint, as `/chat/completions`."""
        return f"{self.api_base}{endpoint}{self.query}"

    def redacted(self, text: str) -> str:
        """A provider's words without the credentials that it was called with: some repeat them in their errors."""
        for value in self.headers.values():
            credential = value.rpartition(" ")[2]
            if len(credential) >= _SHORTEST_SECRET:
                text = text.replace(credential, "****")
        return text

    def public_params(self) -> dict[str, Any]:
        """Its parameters without anything that could hold a secret."""
        return {
            key: value
            for key, value in self.params.items()
            if key in ("max_tokens", "input_cost_per_token", "output_cost_per_token")
            or key.endswith("_token_cost")
            or not any(word in key.lower() for word in _SECRET_WORDS)
        }


def build_deployment(
    model_name: str,
    params: Mapping[str, Any],
    model_info: Mapping[str, Any] | None,
    environment: Mapping[str, str],
    *,
    is_stored: bool = False,
) -> Deployment:
    """Check and complete one deployment. Raises ValueError with what is wrong and what to write instead."""
    info = dict(model_info or {})
    if is_stored:
        _refuse_references(params)
    custom_provider = params.get("custom_llm_provider")
    if custom_provider is not None and not isinstance(custom_provider, str):
        raise ValueError("litellm_params.custom_llm_provider is not text; write a provider's name, as openai")
    provider, upstream_model = split_model(_model_of(params), custom_provider)
    api_base, api_key = _target(provider, params, environment)
    query = ""
    if provider.is_azure:
        api_base, query = _azure(
            api_base, upstream_model, params.get("api_version") or environment.get("AZURE_API_VERSION")
        )
    headers = {**provider.auth_headers(api_key), **_extra_headers(params)}
    if params.get("organization"):
        headers["OpenAI-Organization"] = str(params["organization"])
    _refuse_unsendable(headers)
    identity = (
        info.get("id")
        or sha256(json.dumps([model_name, dict(params)], sort_keys=True, default=str).encode()).hexdigest()
    )
    return Deployment(
        id=str(identity),
        model_name=model_name,
        provider=provider,
        upstream_model=upstream_model,
        api_base=api_base,
        headers=MappingProxyType(headers),
        params=MappingProxyType(dict(params)),
        model_info=MappingProxyType({**info, "id": str(identity), "db_model": is_stored}),
        defaults=MappingProxyType(_body_defaults(params)),
        query=query,
        weight=_number(params, "weight"),
        rpm=_number(params, "rpm"),
        tpm=_number(params, "tpm"),
        timeout=_number(params, "timeout"),
        stream_timeout=_number(params, "stream_timeout"),
        mock_response=str(params["mock_response"]) if params.get("mock_response") is not None else None,
        prices=custom_prices(params) or custom_prices(info) or _listed(provider, info, upstream_model),
        is_stored=is_stored,
    )


def _model_of(params: Mapping[str, Any]) -> str:
    model = params.get("model")
    if not isinstance(model, str) or not model:
        raise ValueError("litellm_params.model is missing; write provider/model, as openai/gpt-4o")
    return model


def _refuse_references(params: Mapping[str, Any]) -> None:
    """Who may add a deployment may not read the environment of this process by it."""
    if any(isinstance(value, str) and value.startswith("os.environ/") for value in params.values()):
        raise ValueError(
            "os.environ/ is resolved in the configuration file only; send the value itself, it is encrypted"
        )


def _listed(provider: Provider, info: Mapping[str, Any], upstream_model: str) -> Prices | None:
    """The bundled price of `base_model` or of the model itself, with and without the part before its last slash."""
    name = str(info.get("base_model") or upstream_model)
    return listed_prices(provider.name, name) or listed_prices(provider.name, name.rpartition("/")[2])


def _target(provider: Provider, params: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[str, str | None]:
    """Where to send calls and with which key. A key of the environment goes to the environment's address only."""
    own_base = params.get("api_base") or params.get("base_url")
    base = own_base or (environment.get(provider.base_variable) if provider.base_variable else None) or provider.base
    if not base and params.get("mock_response") is not None:
        base = "http://mock.invalid"
    if not base:
        raise ValueError(f"litellm_params.api_base is missing; {provider.name} has no address of its own")
    parts = urlsplit(str(base))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"litellm_params.api_base {base!r} is not an address; it starts with http:// or https://")
    if parts.username or parts.password or parts.query or parts.fragment:
        # The address stands in headers and logs.
        raise ValueError("litellm_params.api_base holds more than an address; put a credential into api_key")
    api_key = params.get("api_key")
    if api_key is None and not own_base and provider.key_variable:
        api_key = environment.get(provider.key_variable)
    # A secret that was read from a file often ends in a line end, which no header may hold.
    return str(base).rstrip("/"), str(api_key).strip() if api_key else None


def _azure(base: str, deployment: str, api_version: Any) -> tuple[str, str]:
    """Azure puts the deployment into the path and the version into the query (contract llm.md §5.6)."""
    if api_version in ("v1", "latest", "preview"):
        return f"{base}/openai/v1", "" if api_version == "v1" else f"?api-version={api_version}"
    query = f"?api-version={api_version or '2024-10-21'}"
    if "/openai/deployments/" in base:
        return base, query
    return f"{base}/openai/deployments/{deployment}", query


def _extra_headers(params: Mapping[str, Any]) -> dict[str, str]:
    headers = params.get("extra_headers") or {}
    if not isinstance(headers, Mapping):
        raise ValueError("litellm_params.extra_headers is not a mapping; write `Name: value` lines below it")
    return {str(name): str(value) for name, value in headers.items() if value is not None}


def _refuse_unsendable(headers: Mapping[str, str]) -> None:
    """Said once here, without the value, instead of by a failure of every call."""
    for name, value in headers.items():
        if not name or not all(text.isascii() and text.isprintable() for text in (name, value)):
            raise ValueError(f"litellm_params: the header {name!r} would not be one line of ASCII; correct its value")


def _body_defaults(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that a request gets unless it brings its own, as `temperature`."""
    defaults = {
        key: value
        for key, value in params.items()
        if key not in _CONTROL
        and value is not None
        and not key.startswith(("aws_", "vertex_", "azure_"))
        and not key.endswith(("_cost", "_per_token", "_per_second"))
    }
    extra = params.get("extra_body")
    return {**defaults, **extra} if isinstance(extra, Mapping) else defaults


def _number(params: Mapping[str, Any], name: str) -> float | None:
    value = params.get(name)
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"litellm_params.{name} {value!r} is not a number") from None
    if not 0 <= number < float("inf"):
        raise ValueError(f"litellm_params.{name} must be zero or more")
    return number


class DeploymentCatalog:
    """Every deployment of this instance, by model name. Read on each call, rebuilt when one is added or removed."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._salt_key = settings.salt_key
        self._environment = settings.environment
        self._database = database
        self._configured = tuple(_configured(settings))
        self._stored: tuple[Deployment, ...] = ()
        # An older read must not replace a newer one.
        self._reloading = asyncio.Lock()
        self._by_name: dict[str, tuple[Deployment, ...]] = {}
        self._by_id: dict[str, Deployment] = {}
        self._index()

    def all(self) -> list[Deployment]:
        return [*self._configured, *self._stored]

    def by_id(self, id: str) -> Deployment | None:
        return self._by_id.get(id)

    def names(self) -> list[str]:
        """Model names in the order in which they were configured."""
        return list(self._by_name)

    def behind(self, model: str) -> tuple[Deployment, ...]:
        """The deployments of a model name or of one deployment id; empty for a name that nobody serves."""
        found = self._by_name.get(model)
        if found is None:
            single = self._by_id.get(model)
            return (single,) if single else ()
        return found

    async def add(
        self, model_name: str, params: Mapping[str, Any], info: Mapping[str, Any], created_by: str
    ) -> StoredDeployment:
        """Check, encrypt and store a deployment; it serves from the next call on. Raises ValueError when wrong."""
        deployment = build_deployment(model_name, params, info, self._environment, is_stored=True)
        row = await StoredDeployment.create(
            model_id=deployment.id,
            model_name=model_name,
            litellm_params=encrypt(json.dumps(dict(params)), self._salt_key),
            model_info={**info, "id": deployment.id},
            created_by=created_by,
            updated_by=created_by,
        )
        await self.reload()
        return row

    async def reload(self) -> None:
        """Read the stored deployments again. One that cannot be read or is wrong is logged and left out."""
        async with self._reloading:
            with self._database.active():
                rows = await StoredDeployment.filter(blocked=False).order_by("created_at")
            self._stored = tuple(self._readable(rows))
            self._index()

    def _readable(self, rows: Iterable[StoredDeployment]) -> Iterator[Deployment]:
        for row in rows:
            try:
                params = json.loads(decrypt(row.litellm_params, self._salt_key))
                info = {**row.model_info, "id": row.model_id}
                yield build_deployment(row.model_name, params, info, self._environment, is_stored=True)
            except (ValueError, TypeError, AttributeError) as problem:  # another version may have stored anything
                log.error("stored deployment is left out", model_id=row.model_id, reason=str(problem))

    def _index(self) -> None:
        by_name: dict[str, list[Deployment]] = {}
        for deployment in self.all():
            by_name.setdefault(deployment.model_name, []).append(deployment)
        self._by_name = {name: tuple(members) for name, members in by_name.items()}
        self._by_id = {deployment.id: deployment for deployment in self.all()}


def _configured(settings: Settings) -> list[Deployment]:
    deployments = []
    for index, row in enumerate(settings.model_list):
        params = {**{key: row[key] for key in ("rpm", "tpm", "weight") if key in row}, **row["litellm_params"]}
        try:
            deployments.append(build_deployment(row["model_name"], params, row.get("model_info"), settings.environment))
        except ValueError as problem:
            raise SettingsError(
                f"{settings.config_path}: model_list[{index}] ({row['model_name']}): {problem}"
            ) from None
    return deployments
