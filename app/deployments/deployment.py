"""One deployment: from `litellm_params` and `model_info` to a target of calls, its credential and its prices."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256
from types import MappingProxyType
from typing import Any

from ..protocols.dialect import Dialect
from ..protocols.dialects import DIALECTS
from ..protocols.openai.request import GATEWAY_FIELDS
from ..protocols.providers import PROVIDERS, Provider, family_of, split_model
from ..security.masking import MASK
from ..security.public_address import may_be_public
from ..settings.header_rules import check_written
from ..settings.routing import FailurePolicy, allowed_fails_policy
from ..spend.pricing import Prices, custom_prices, listed_prices
from .public_params import public_defaults, public_params
from .target import target_of

# Parameters that are for the gateway; every other one is a default for the request body.
_GATEWAY_PARAMS = frozenset(
    "model api_base base_url api_key api_version organization custom_llm_provider timeout stream_timeout rpm tpm "
    "weight max_retries num_retries extra_headers extra_body input_cost_per_token output_cost_per_token "
    "cache_read_input_token_cost cache_creation_input_token_cost mock_response order tags max_parallel_requests "
    "cooldown_time max_budget budget_duration use_in_pass_through drop_params additional_drop_params guardrails "
    "litellm_credential_name keepalive_seconds itpm otpm tag_regex timeout_by_service_tier "
    "stream_timeout_by_service_tier allowed_openai_params modify_params configurable_clientside_auth_params "
    "merge_reasoning_content_in_choices cache_control_injection_points use_chat_completions_api "
    "default_api_key_tpm_limit default_api_key_rpm_limit tenant_id client_id client_secret base_model headers "
    "model_info region_name allowed_model_region use_litellm_proxy custom_tokenizer mock_timeout default_fallbacks "
    "hide_from_model_list project_id client_certificate caching_groups ttl force_timeout request_timeout retry_policy "
    "retry_strategy allowed_fails allowed_fails_policy max_fallbacks model_list model_config fastest_response "
    "success_callback failure_callback preset_cache_key cache_key secret_fields prompt_id prompt_variables "
    "prompt_version prompt_label provider_specific_header hf_model_name roles initial_prompt_value "
    "final_prompt_value bos_token eos_token user_continue_message assistant_continue_message "
    "ensure_alternating_roles access_groups team_id mode".split()
)
# And whole kinds of parameters: of other clouds, of the gateway itself, of its connections, of what a model can do.
_GATEWAY_PREFIXES = ("aws_", "vertex_", "azure_", "litellm_", "supports_", "ssl_", "s3_", "input_cost_", "output_cost_")
_MIN_CREDENTIAL_LENGTH = 8  # shorter values, as the `none` of a local server, are not masked


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One provider target behind a model name. Seconds for times, USD per token for prices.

    `is_team_made`: an admin of its team made it. It bills nobody else, and is called at public addresses only.
    """

    id: str
    model_name: str
    provider: Provider
    dialect: Dialect = field(repr=False)
    upstream_model: str
    api_base: str
    headers: Mapping[str, str] = field(repr=False)
    params: Mapping[str, Any] = field(repr=False)
    model_info: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict, repr=False)
    # Names of defaults that nobody is shown: those of `extra_body` and of the shared credential.
    secret_defaults: frozenset[str] = frozenset()
    query: str = ""
    weight: float | None = None
    rpm: float | None = None
    tpm: float | None = None
    timeout: float | None = None
    stream_timeout: float | None = None
    order: float | None = None
    tags: tuple[str, ...] = ()
    num_retries: int | None = None
    cooldown_seconds: float | None = None
    allowed_fails: int | None = None
    allowed_fails_policy: FailurePolicy = field(default_factory=dict)
    max_parallel_requests: int | None = None
    keepalive_seconds: float | None = None
    context_window: int | None = None
    mock_response: str | None = None
    prices: Prices | None = None
    is_stored: bool = False
    is_blocked: bool = False
    is_team_made: bool = False
    team_id: str | None = None

    @property
    def public_name(self) -> str:
        """The model name that clients use. A deployment of one team has an internal `model_name` of its own."""
        name = self.model_info.get("team_public_model_name") if self.team_id is not None else None
        return name if isinstance(name, str) and name else self.model_name

    @property
    def access_groups(self) -> tuple[str, ...]:
        """The access groups (`model_info.access_groups`) that contain this deployment's model."""
        groups = self.model_info.get("access_groups")
        return tuple(str(group) for group in groups) if isinstance(groups, list | tuple) else ()

    @property
    def credential_name(self) -> str | None:
        """The shared credential that its parameters refer to."""
        return named_credential(self.params)

    @property
    def input_cost_per_token(self) -> Decimal | None:
        return self.prices.input.base if self.prices else None

    @property
    def output_cost_per_token(self) -> Decimal | None:
        return self.prices.output.base if self.prices else None

    def url(self, endpoint: str) -> str:
        """The provider's address of an endpoint, as `/chat/completions`."""
        return f"{self.api_base}{endpoint}{self.query}"

    @property
    def connection_owner(self) -> tuple[object, ...]:
        """Who its connections belong to: they are shared by calls of the same team with the same credential only."""
        return (self.team_id, *self.headers.items())

    @property
    def credentials(self) -> list[str]:
        """The secrets among the headers of its calls."""
        values = [value.rpartition(" ")[2] for value in self.headers.values()]
        return [credential for credential in values if len(credential) >= _MIN_CREDENTIAL_LENGTH]

    def redacted(self, text: str) -> str:
        """A provider's text with our credentials masked: some providers repeat them in their errors."""
        for credential in self.credentials:
            text = text.replace(credential, MASK)
        return text

    def public_params(self) -> dict[str, Any]:
        """Its parameters without anything that could hold a secret."""
        return public_params(self.params)

    def public_defaults(self) -> dict[str, Any]:
        """Its defaults for the request body, with the values masked that could be secrets."""
        return public_defaults(self.defaults, self.secret_defaults)


def identity_of(model_name: str, params: Mapping[str, Any], info: Mapping[str, Any]) -> str:
    """The id that a deployment was given, else one of what was written: the same configuration has the same id."""
    facts = json.dumps([model_name, dict(params)], sort_keys=True, default=str)
    return str(info.get("id") or sha256(facts.encode()).hexdigest())


def build_deployment(
    model_name: str,
    params: Mapping[str, Any],
    model_info: Mapping[str, Any] | None,
    environment: Mapping[str, str],
    *,
    credentials: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    is_stored: bool = False,
    is_blocked: bool = False,
    is_team_made: bool = False,
) -> Deployment:
    """Check and complete one deployment. Raises ValueError with what is wrong and what to write instead.

    `credentials` are the shared ones by name; values of the parameters override those of the one that they name.
    """
    info = dict(model_info or {})
    if is_stored:
        refuse_references(params)
    written, params = params, _with_credential(params, credentials)
    provider, upstream_model = _provider_of(params)
    dialect = DIALECTS[provider.dialect]
    params = _with_address_params(dialect, params)
    api_base, api_key = target_of(provider, params, environment)
    if is_team_made and not may_be_public(api_base):
        raise ValueError("litellm_params.api_base is not a public address; only an admin of the instance names others")
    api_base, query = dialect.address(api_base, upstream_model, _with_environment(params, environment))
    # Of what was written: a credential that gets another value leaves the deployments what they are.
    identity = identity_of(model_name, written, info)
    return Deployment(
        id=identity,
        model_name=model_name,
        provider=provider,
        dialect=dialect,
        upstream_model=upstream_model,
        api_base=api_base,
        headers=MappingProxyType(_headers(provider, api_key, params)),
        params=MappingProxyType(dict(written)),
        model_info=MappingProxyType({**info, "id": identity, "db_model": is_stored}),
        defaults=MappingProxyType(_body_defaults(params)),
        secret_defaults=frozenset((*(params.get("extra_body") or ()), *(params.keys() - written.keys()))),
        query=query,
        **_routing_fields(params, info),
        context_window=_context_window(info),
        mock_response=str(params["mock_response"]) if params.get("mock_response") is not None else None,
        prices=_prices(params, info) or _listed_prices(provider, _base_model(params, info), upstream_model),
        is_stored=is_stored,
        is_team_made=is_team_made,
        is_blocked=is_blocked or info.get("blocked") is True,
        team_id=str(info["team_id"]) if info.get("team_id") else None,
    )


def _routing_fields(params: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that routing reads: weights, limits, timeouts, cooldowns and retries."""
    cooldown_seconds, num_retries = _number(params, "cooldown_time"), _integer(params, "num_retries")
    if cooldown_seconds is None:
        cooldown_seconds = _number(info, "cooldown_time", "model_info")
    return {
        "weight": _number(params, "weight"),
        "rpm": _number(params, "rpm"),
        "tpm": _number(params, "tpm"),
        "timeout": _number(params, "timeout"),
        "stream_timeout": _number(params, "stream_timeout"),
        "order": _number(params, "order"),
        "tags": _tags(params),
        "num_retries": num_retries if num_retries is not None else _integer(params, "max_retries"),
        "cooldown_seconds": cooldown_seconds,
        "allowed_fails": _integer(info, "allowed_fails", "model_info"),
        "allowed_fails_policy": _allowed_fails_policy(info),
        "max_parallel_requests": _integer(params, "max_parallel_requests"),
        "keepalive_seconds": _number(params, "keepalive_seconds") or None,
    }


def _provider_of(params: Mapping[str, Any]) -> tuple[Provider, str]:
    custom_provider = params.get("custom_llm_provider")
    if custom_provider is not None and not isinstance(custom_provider, str):
        raise ValueError("litellm_params.custom_llm_provider is not text; write a provider's name, as openai")
    has_address = bool(params.get("api_base") or params.get("base_url")) or params.get("mock_response") is not None
    provider, upstream_model = split_model(_model_of(params), custom_provider, has_address=has_address)
    if provider.is_pass_through_only and str(params.get("use_in_pass_through", "")).lower() != "true":
        raise ValueError(
            f"{provider.name!r} is served by pass-through only; add `use_in_pass_through: true` to lend its credential"
        )
    return provider, upstream_model


def _headers(provider: Provider, api_key: str | None, params: Mapping[str, Any]) -> dict[str, str]:
    own = provider.auth_headers(api_key)
    if params.get("organization"):
        own["OpenAI-Organization"] = str(params["organization"])
    try:
        check_written(own)
    except ValueError as problem:
        raise ValueError(f"litellm_params {problem}") from None
    return {**own, **extra_headers(params, reserved=own)}


def named_credential(params: Mapping[str, Any]) -> str | None:
    """The shared credential that a deployment's parameters name. Raises ValueError for a name that is no text."""
    name = params.get("litellm_credential_name")
    if name in (None, ""):
        return None
    if not isinstance(name, str):
        raise ValueError("litellm_params.litellm_credential_name is not text; write the name of a credential")
    return name


def _with_credential(params: Mapping[str, Any], credentials: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The parameters over the values of their credential. Admins write both, so no caller decides where it is sent."""
    name = named_credential(params)
    if name is None:
        return params
    if name not in credentials:
        raise ValueError(f"litellm_params.litellm_credential_name: there is no credential named {name!r}; create it")
    shared = credentials[name]
    own = {key: value for key, value in params.items() if key not in shared or value not in (None, "")}
    return {**shared, **own}


def _model_of(params: Mapping[str, Any]) -> str:
    model = params.get("model")
    if not isinstance(model, str) or not model:
        raise ValueError("litellm_params.model is missing; write provider/model, as openai/gpt-4o")
    return model


def refuse_references(params: Mapping[str, Any]) -> None:
    """Raises ValueError for `os.environ/…`: adding a deployment must not read the environment of this process."""
    if any(isinstance(value, str) and value.startswith("os.environ/") for value in params.values()):
        raise ValueError(
            "os.environ/ is resolved in the configuration file only; send the value itself, it is encrypted"
        )


def _prices(params: Mapping[str, Any], info: Mapping[str, Any]) -> Prices | None:
    """Its own prices, None when it sets none. Both places are checked, also when the first one decides."""
    of_params, of_info = custom_prices(params), custom_prices(info)
    return of_params or of_info


def _listed_prices(provider: Provider, base_model: str | None, upstream_model: str) -> Prices | None:
    """The bundled price of `base_model` or of the model itself, with and without the part before its last slash.

    A `base_model` is a model of the same provider, or of the one that it names or that gives its models such names.
    """
    name = base_model or upstream_model
    listed = listed_prices(provider.name, name) or listed_prices(provider.name, name.rpartition("/")[2])
    if listed is not None or base_model is None:
        return listed
    prefix, _, rest = base_model.rpartition("/")
    family = PROVIDERS.get(prefix) or family_of(rest)
    return listed_prices(family.name, rest) if family is not None else None


def _base_model(params: Mapping[str, Any], info: Mapping[str, Any]) -> str | None:
    """What a deployment serves, where its name does not say it: people write it in either place."""
    given = info.get("base_model") or params.get("base_model")
    return str(given) if given else None


def listed_price(deployment: Deployment, upstream_model: str) -> Prices | None:
    """The bundled prices of a deployment when it serves this model."""
    return _listed_prices(deployment.provider, _base_model(deployment.params, deployment.model_info), upstream_model)


def _with_address_params(dialect: Dialect, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters that people leave in an address as they copied it, below those that are named."""
    for name in ("api_base", "base_url"):
        if isinstance(params.get(name), str):
            base, found = dialect.split_address(params[name].strip())
            named = {key: value for key, value in params.items() if value is not None}
            params = {**found, **named, name: base}
    return params


def _with_environment(params: Mapping[str, Any], environment: Mapping[str, str]) -> Mapping[str, Any]:
    """The version of Azure's API may stand in the environment, for all deployments that do not name one."""
    version = params.get("api_version") or environment.get("AZURE_API_VERSION")
    return {**params, "api_version": version} if version else params


def extra_headers(params: Mapping[str, Any], *, reserved: Iterable[str] = ()) -> dict[str, str]:
    """The headers that calls carry beside our own, which are `reserved`. Raises ValueError without a value."""
    written = params.get("extra_headers") or {}
    if not isinstance(written, Mapping):
        raise ValueError("litellm_params.extra_headers is not a mapping; write `Name: value` lines below it")
    headers = {str(name): str(value) for name, value in written.items() if value is not None}
    try:
        check_written(headers, reserved)
    except ValueError as problem:
        raise ValueError(f"litellm_params.extra_headers {problem}") from None
    # Under the name by which a call says the type of its body: one of the two is sent.
    return {"Content-Type" if name.lower() == "content-type" else name: value for name, value in headers.items()}


def _body_defaults(params: Mapping[str, Any]) -> dict[str, Any]:
    """Body fields that a request gets unless it has its own, as `temperature`."""
    defaults = {
        key: value
        for key, value in params.items()
        if key not in _GATEWAY_PARAMS
        and key not in GATEWAY_FIELDS  # what no client may send there either
        and value is not None
        and not key.startswith(_GATEWAY_PREFIXES)
        and not key.endswith("_cost")
        and "_cost_per_" not in key
    }
    extra = params.get("extra_body")
    return {**defaults, **extra} if isinstance(extra, Mapping) else defaults


def _number(params: Mapping[str, Any], name: str, section: str = "litellm_params") -> float | None:
    value = params.get(name)
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{section}.{name} {value!r} is not a number") from None
    if not 0 <= number < float("inf"):
        raise ValueError(f"{section}.{name} must be zero or more")
    return number


def _integer(params: Mapping[str, Any], name: str, section: str = "litellm_params") -> int | None:
    value = _number(params, name, section)
    return None if value is None else int(value)


def _allowed_fails_policy(info: Mapping[str, Any]) -> FailurePolicy:
    try:
        return allowed_fails_policy(info.get("allowed_fails_policy") or {})
    except ValueError as problem:
        raise ValueError(f"model_info.allowed_fails_policy {problem}") from None


def _tags(params: Mapping[str, Any]) -> tuple[str, ...]:
    tags = params.get("tags") or ()
    if not isinstance(tags, list | tuple):
        raise ValueError("litellm_params.tags is not a list; write `tags: [free, eu]`")
    return tuple(str(tag) for tag in tags)


def _context_window(info: Mapping[str, Any]) -> int | None:
    """`max_input_tokens` of the model's information, else `max_tokens`; other values are ignored."""
    for name in ("max_input_tokens", "max_tokens"):
        value = info.get(name)
        if isinstance(value, int | float) and value > 0:
            return int(value)
    return None
