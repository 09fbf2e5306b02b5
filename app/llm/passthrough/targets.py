"""The target of a pass-through prefix, and its credential. Pure: environment and deployments are passed in.

A credential is sent to the address that it was configured with and to no other: the key of the environment to the
provider's own address (or the environment's), the key of a deployment to the deployment's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from ...deployments.deployment import extra_headers
from ...security.masking import is_plain_parameter
from ...settings.pass_through import PassThroughEndpoint
from .clouds import bedrock_target, vertex_target
from .ownership import fully_decoded
from .path import Pairs, encode_path
from .sources import CredentialSource, Target, checked_base, choose_source, first_variable, missing_credential

# Headers of a configured endpoint that hold no credential.
_PLAIN_HEADER = re.compile("accept.*|content-.*|user-agent|.*-version|.*-beta")


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
    default_headers: tuple[tuple[str, str], ...] = ()
    # Providers whose deployments may lend a credential.
    source_providers: tuple[str, ...] = ()


_OPENAI = Prefix(
    provider="openai",
    base="https://api.openai.com",
    base_variables=("OPENAI_API_BASE",),
    key_variables=("OPENAI_API_KEY",),
    version="v1",
    source_providers=("openai",),
)
_AZURE = Prefix(
    provider="azure",
    base_variables=("AZURE_API_BASE",),
    key_variables=("AZURE_API_KEY",),
    header="api-key",
    scheme="",
    source_providers=("azure", "azure_ai"),
)
_VERTEX = Prefix(
    provider="vertex_ai", key_variables=("DEFAULT_GOOGLE_APPLICATION_CREDENTIALS",), source_providers=("vertex_ai",)
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
        default_headers=(("anthropic-version", "2023-06-01"),),
        source_providers=("anthropic",),
    ),
    "gemini": Prefix(
        provider="gemini",
        base="https://generativelanguage.googleapis.com",
        base_variables=("GEMINI_API_BASE",),
        key_variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        key_parameter="key",
        source_providers=("gemini",),
    ),
    "vertex_ai": _VERTEX,
    "vertex-ai": _VERTEX,
    "bedrock": Prefix(provider="bedrock", key_variables=("AWS_ACCESS_KEY_ID",), source_providers=("bedrock",)),
    "azure": _AZURE,
    "azure_ai": _AZURE,
    "cohere": Prefix(
        provider="cohere",
        base="https://api.cohere.com",
        key_variables=("COHERE_API_KEY",),
        source_providers=("cohere",),
    ),
    "mistral": Prefix(
        provider="mistral",
        base="https://api.mistral.ai",
        key_variables=("MISTRAL_API_KEY",),
        source_providers=("mistral",),
    ),
    "vllm": Prefix(
        provider="hosted_vllm",
        base_variables=("HOSTED_VLLM_API_BASE",),
        key_variables=("HOSTED_VLLM_API_KEY",),
        needs_key=False,
        source_providers=("hosted_vllm", "vllm"),
    ),
}


def path_spellings(name: str, segments: Sequence[str]) -> list[str]:
    """The paths of this instance that lead to the same one of a provider, fully decoded.

    With every alias of the prefix, with and without the version, for Vertex AI without project and location as well:
    a route that is denied in one spelling is denied in all. `name`: the prefix, or the path of a configured endpoint.
    """
    prefix = PREFIXES.get(name)
    parts = "/".join(map(fully_decoded, segments)).split("/")
    if prefix is None:
        return ["/".join((name, *parts)).rstrip("/")]
    has_version = re.fullmatch(r"v\d\w*", parts[0]) is not None
    unversioned = parts[1:] if has_version else parts
    forms = [parts, unversioned, [prefix.version or "v1", *unversioned]]
    if prefix.provider == "vertex_ai" and unversioned[:1] == ["projects"] and unversioned[2:3] == ["locations"]:
        forms.append(unversioned[4:])
    aliases = [alias for alias, other in PREFIXES.items() if other is prefix]
    return ["/".join(("", alias, *form)) for alias in aliases for form in forms]


def target_of(
    name: str,
    segments: tuple[str, ...],
    query: Pairs,
    model: str,
    environment: Mapping[str, str],
    sources: Sequence[CredentialSource],
) -> Target:
    """The target of a call below `/{name}/`. `sources`: deployments that this caller may use, of this provider only.

    Raises MissingCredential when there is none, and InvalidRequest for an invalid region.
    """
    prefix = PREFIXES[name]
    if prefix.provider == "vertex_ai":
        return vertex_target(segments, query, model, environment, sources)
    if prefix.provider == "bedrock":
        return bedrock_target(segments, query, model, environment, sources)
    source = choose_source(sources, model)
    base, key = _address_and_key(prefix, source, environment)
    if not base:
        raise missing_credential(prefix.base_variables[0], name)
    if prefix.needs_key and not key:
        raise missing_credential(prefix.key_variables[0], name)
    headers = _extra_headers(source)
    if key and prefix.key_parameter:
        query = [*query, (prefix.key_parameter, key)]
    elif key:
        headers[prefix.header] = f"{prefix.scheme}{key}"
    base, segments = _with_version(base, segments, prefix.version)
    return Target(
        provider=prefix.provider,
        base=base,
        path=encode_path(segments),
        query=query,
        headers=headers,
        defaults=dict(prefix.default_headers),
        secrets=(*((key,) if key else ()), *_credentials_in(headers)),
        source=source,
        model=model,
    )


def _address_and_key(
    prefix: Prefix, source: CredentialSource | None, environment: Mapping[str, str]
) -> tuple[str | None, str | None]:
    """Address and key of one origin: those of a deployment, or those of the environment."""
    own_base = (source.text("api_base") or source.text("base_url")) if source else None
    key = source.text("api_key") if source else None
    if own_base:
        return own_base, key
    base = first_variable(environment, prefix.base_variables) or prefix.base
    return base, key or first_variable(environment, prefix.key_variables)


def _extra_headers(source: CredentialSource | None) -> dict[str, str]:
    """The headers of the lending deployment, which were checked when it was built."""
    return {name.lower(): value for name, value in extra_headers(source.params).items()} if source else {}


def _credentials_in(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The values of an operator's headers that may be credentials, whatever the headers are called."""
    return tuple(value.rpartition(" ")[2] for name, value in headers.items() if not _PLAIN_HEADER.fullmatch(name))


def _with_version(base: str, segments: tuple[str, ...], version: str) -> tuple[str, tuple[str, ...]]:
    """Base and segments with the version between them exactly once, wherever it was given."""
    base = checked_base(base)
    last = base.rpartition("/")[2]
    if re.fullmatch(r"v\d+(beta\d*)?", last) and segments[0] == last:
        segments = segments[1:]
    elif version and last != version and not re.fullmatch(r"v\d+", segments[0]):
        segments = (version, *segments)
    return base, segments


def configured_target(endpoint: PassThroughEndpoint, segments: tuple[str, ...], query: Pairs) -> Target:
    """The target of a call to a configured endpoint; `segments` follow its path, `query` is the caller's."""
    parts = urlsplit(endpoint.target)
    target_query = parse_qsl(parts.query, keep_blank_values=True) if endpoint.merges_query or not query else []
    merged = {**dict(target_query), **endpoint.query}
    sent_names = {name for name, _ in query}
    headers = {name.lower(): value for name, value in endpoint.headers.items()}
    secrets = (*_credentials_in(headers), *(value for name, value in merged.items() if not is_plain_parameter(name)))
    path = parts.path.rstrip("/")
    return Target(
        provider=parts.hostname or "",
        base=f"{parts.scheme}://{parts.netloc}",
        path=f"{path}{encode_path(segments)}" if segments else path or "/",
        query=[*((name, value) for name, value in merged.items() if name not in sent_names), *query],
        headers=headers,
        secrets=secrets,
        cost_per_request=endpoint.cost_per_request,
        timeout=endpoint.timeout,
    )
