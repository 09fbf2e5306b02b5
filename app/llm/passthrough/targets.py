"""Where a pass-through prefix leads, and with which credential. Pure: environment and deployments are handed in.

A credential goes to the address that it was configured with and to no other: the key of the environment to the
provider's own address (or the environment's), the key of a deployment to the deployment's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from ...settings.pass_through import PassThroughEndpoint
from .clouds import bedrock_target, vertex_target
from .path import Pairs, encoded
from .sources import Source, Target, chosen, first, missing, origin

# Headers of a configured endpoint that hold no credential, and parameters of its query that may hold one.
_PLAIN_HEADER = re.compile("accept.*|content-.*|user-agent|.*-version|.*-beta")
_SECRET_PARAMETER = re.compile("key|auth|token|secret|sig|password|pwd|code", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """One provider. `header` and `scheme` carry the key, or `key_parameter` in the query; `version` is put in front."""

    provider: str
    base: str | None = None
    base_variables: tuple[str, ...] = ()
    key_variables: tuple[str, ...] = ()
    header: str = "authorization"
    scheme: str = "Bearer "
    key_parameter: str = ""
    version: str = ""
    needs_key: bool = True
    more_headers: tuple[tuple[str, str], ...] = ()
    # Names of `litellm_params.model` prefixes whose deployments may lend a credential.
    lenders: tuple[str, ...] = ()


_OPENAI = Prefix(
    provider="openai",
    base="https://api.openai.com",
    base_variables=("OPENAI_API_BASE",),
    key_variables=("OPENAI_API_KEY",),
    version="v1",
    lenders=("openai",),
)
_AZURE = Prefix(
    provider="azure",
    base_variables=("AZURE_API_BASE",),
    key_variables=("AZURE_API_KEY",),
    header="api-key",
    scheme="",
    lenders=("azure", "azure_ai"),
)
_VERTEX = Prefix(
    provider="vertex_ai", key_variables=("DEFAULT_GOOGLE_APPLICATION_CREDENTIALS",), lenders=("vertex_ai",)
)

# First segment of our path -> provider.
PREFIXES: Mapping[str, Prefix] = {
    "openai": _OPENAI,
    "openai_passthrough": _OPENAI,
    "anthropic": Prefix(
        provider="anthropic",
        base="https://api.anthropic.com",
        base_variables=("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"),
        key_variables=("ANTHROPIC_API_KEY",),
        header="x-api-key",
        scheme="",
        more_headers=(("anthropic-version", "2023-06-01"),),
        lenders=("anthropic",),
    ),
    "gemini": Prefix(
        provider="gemini",
        base="https://generativelanguage.googleapis.com",
        base_variables=("GEMINI_API_BASE",),
        key_variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        key_parameter="key",
        lenders=("gemini",),
    ),
    "vertex_ai": _VERTEX,
    "vertex-ai": _VERTEX,
    "bedrock": Prefix(provider="bedrock", key_variables=("AWS_ACCESS_KEY_ID",), lenders=("bedrock",)),
    "azure": _AZURE,
    "azure_ai": _AZURE,
    "cohere": Prefix(
        provider="cohere", base="https://api.cohere.com", key_variables=("COHERE_API_KEY",), lenders=("cohere",)
    ),
    "mistral": Prefix(
        provider="mistral", base="https://api.mistral.ai", key_variables=("MISTRAL_API_KEY",), lenders=("mistral",)
    ),
    "vllm": Prefix(
        provider="hosted_vllm",
        base_variables=("HOSTED_VLLM_API_BASE",),
        key_variables=("HOSTED_VLLM_API_KEY",),
        needs_key=False,
        lenders=("hosted_vllm", "vllm"),
    ),
}


def target_of(
    name: str,
    segments: tuple[str, ...],
    query: Pairs,
    model: str,
    environment: Mapping[str, str],
    sources: Sequence[Source],
) -> Target:
    """Where a call below `/{name}/` goes. `sources`: deployments that this caller may use, of this provider only.

    Raises NoCredential when there is none, and InvalidRequest for a region that is none.
    """
    prefix = PREFIXES[name]
    if prefix.provider == "vertex_ai":
        return vertex_target(segments, query, model, environment, sources)
    if prefix.provider == "bedrock":
        return bedrock_target(segments, query, model, environment, sources)
    source = chosen(sources, model)
    base, key = _address_and_key(prefix, source, environment)
    if not base:
        raise missing(prefix.base_variables[0], name)
    if prefix.needs_key and not key:
        raise missing(prefix.key_variables[0], name)
    headers = _extra_headers(source)
    if key and prefix.key_parameter:
        query = [*query, (prefix.key_parameter, key)]
    elif key:
        headers[prefix.header] = f"{prefix.scheme}{key}"
    base, segments = _joined(base, segments, prefix.version)
    return Target(
        provider=prefix.provider,
        base=base,
        path=encoded(segments),
        query=query,
        headers=headers,
        defaults=dict(prefix.more_headers),
        secrets=(*((key,) if key else ()), *_credentials_in(headers)),
        source=source,
        model=model,
    )


def _address_and_key(
    prefix: Prefix, source: Source | None, environment: Mapping[str, str]
) -> tuple[str | None, str | None]:
    """Address and key of one origin: those of a deployment, or those of the environment."""
    own_base = (source.text("api_base") or source.text("base_url")) if source else None
    key = source.text("api_key") if source else None
    if own_base:
        return own_base, key
    base = first(environment, prefix.base_variables) or prefix.base
    return base, key or first(environment, prefix.key_variables)


def _extra_headers(source: Source | None) -> dict[str, str]:
    extra = source.params.get("extra_headers") if source else None
    return {str(name).lower(): str(value) for name, value in extra.items()} if isinstance(extra, Mapping) else {}


def _credentials_in(headers: Mapping[str, str]) -> tuple[str, ...]:
    """What headers of an operator may prove, whatever they are called."""
    return tuple(value.rpartition(" ")[2] for name, value in headers.items() if not _PLAIN_HEADER.fullmatch(name))


def _joined(base: str, segments: tuple[str, ...], version: str) -> tuple[str, tuple[str, ...]]:
    """Base and segments with the version between them exactly once, wherever it was written."""
    base = origin(base)
    last = base.rpartition("/")[2]
    if re.fullmatch(r"v\d+(beta\d*)?", last) and segments[0] == last:
        segments = segments[1:]
    elif version and last != version and not re.fullmatch(r"v\d+", segments[0]):
        segments = (version, *segments)
    return base, segments


def configured_target(endpoint: PassThroughEndpoint, segments: tuple[str, ...], query: Pairs) -> Target:
    """Where a call to a configured endpoint goes; `segments` is what follows its path, `query` what the caller sent."""
    parts = urlsplit(endpoint.target)
    own = parse_qsl(parts.query, keep_blank_values=True) if endpoint.merges_query or not query else []
    merged = {**dict(own), **endpoint.query}
    given = {name for name, _ in query}
    headers = {name.lower(): value for name, value in endpoint.headers.items()}
    secrets = (*_credentials_in(headers), *(value for name, value in merged.items() if _SECRET_PARAMETER.search(name)))
    path = parts.path.rstrip("/")
    return Target(
        provider=parts.hostname or "",
        base=f"{parts.scheme}://{parts.netloc}",
        path=f"{path}{encoded(segments)}" if segments else path or "/",
        query=[*((name, value) for name, value in merged.items() if name not in given), *query],
        headers=headers,
        secrets=secrets,
        cost_per_request=endpoint.cost_per_request,
        timeout=endpoint.timeout,
    )
