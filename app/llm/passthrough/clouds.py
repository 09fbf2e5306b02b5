"""Targets of pass-through calls to Vertex AI and Bedrock: the host by region, the credential by project. Pure.

A region becomes part of a host name, so its form is checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from ...errors import InvalidRequest
from .aws_signature import AwsCredentials
from .path import Pairs, encode_path
from .sources import (
    CredentialSource,
    MissingCredential,
    Target,
    checked_base,
    choose_source,
    first_variable,
    missing_credential,
)

_REGION = re.compile(r"[a-z]{2}(-[a-z]{2,12}){1,3}-\d{1,2}")
_LOCATION = re.compile(r"global|us|eu|[a-z]{2,20}-[a-z]{2,20}\d{1,2}")
_AGENT_RESOURCES = frozenset(
    "agents knowledgebases flows rerank retrieveandgenerate retrieveandgeneratestream generatequery sessions "
    "optimize-prompt".split()
)

# ---- Vertex AI -----------------------------------------------------------------------------------------------------


def vertex_target(
    segments: tuple[str, ...],
    query: Pairs,
    model: str,
    environment: Mapping[str, str],
    sources: Sequence[CredentialSource],
) -> Target:
    project, location = _after(segments, "projects"), _after(segments, "locations")
    source = _vertex_source(sources, project, location, model)
    own_project = source.text("vertex_project") if source else first_variable(environment, _PROJECTS)
    own_location = source.text("vertex_location") if source else first_variable(environment, _LOCATIONS)
    own_base = source.text("api_base") if source else None
    account = source.text("vertex_credentials") if source else None
    # The environment's account is sent to Google's own address, not to one of a deployment.
    account = account or (None if own_base else first_variable(environment, _ACCOUNTS))
    if not account:
        raise missing_credential(_ACCOUNTS[0], "vertex_ai")
    if segments[0] == "discovery":
        base, segments = "https://discoveryengine.googleapis.com", segments[1:]
    else:
        location = location or own_location
        if not location:
            raise missing_credential(_LOCATIONS[0], "vertex_ai")
        if not _LOCATION.fullmatch(location):
            raise InvalidRequest("The location in the path is none of Vertex AI", param="location")
        base = checked_base(own_base) if own_base else f"https://{_vertex_host(location)}"
        segments = _vertex_path(segments, project or own_project, location)
    if not segments:
        raise InvalidRequest("The path names nothing to call", param="path")
    return Target(
        provider="vertex_ai",
        base=base,
        path=encode_path(segments),
        query=query,
        service_account=account,
        source=source,
        model=model,
    )


_PROJECTS = ("DEFAULT_VERTEXAI_PROJECT", "VERTEXAI_PROJECT")
_LOCATIONS = ("DEFAULT_VERTEXAI_LOCATION", "VERTEXAI_LOCATION")
_ACCOUNTS = ("DEFAULT_GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS")


def _vertex_source(
    sources: Sequence[CredentialSource], project: str | None, location: str | None, model: str
) -> CredentialSource | None:
    """The deployment of the project in the path, or of all when the path has none. None: use the environment's."""
    candidates = [
        source
        for source in sources
        if project in (None, source.text("vertex_project")) and location in (None, source.text("vertex_location"))
    ]
    candidates = candidates or [
        source for source in sources if project is not None and project == source.text("vertex_project")
    ]
    return choose_source(candidates, model)


def _vertex_host(location: str) -> str:
    if location == "global":
        return "aiplatform.googleapis.com"
    if location in ("us", "eu"):
        return f"aiplatform.{location}.rep.googleapis.com"
    return f"{location}-aiplatform.googleapis.com"


def _vertex_path(segments: tuple[str, ...], project: str | None, location: str) -> tuple[str, ...]:
    """The whole path: version, project and location are inserted where the caller left them out."""
    version, rest = (segments[0], segments[1:]) if re.fullmatch(r"v\d\w*", segments[0]) else ("v1", segments)
    if rest and rest[0] not in ("projects", "operations"):
        if not project:
            raise missing_credential(_PROJECTS[0], "vertex_ai")
        rest = ("projects", project, "locations", location, *rest)
    return (version, *rest)


def _after(segments: tuple[str, ...], name: str) -> str | None:
    return next((following for segment, following in pairwise(segments) if segment == name), None)


# ---- Bedrock -------------------------------------------------------------------------------------------------------


def bedrock_target(
    segments: tuple[str, ...],
    query: Pairs,
    model: str,
    environment: Mapping[str, str],
    sources: Sequence[CredentialSource],
) -> Target:
    source = choose_source(sources, model)
    own_base = source.text("aws_bedrock_runtime_endpoint") if source else None
    credentials = _aws_credentials(source, {} if own_base else environment)
    bearer = None if own_base or credentials.access_key_id else environment.get("AWS_BEARER_TOKEN_BEDROCK")
    if not credentials.access_key_id and not bearer:
        raise missing_credential("AWS_ACCESS_KEY_ID", "bedrock")
    regions = ("AWS_REGION_NAME", "AWS_REGION", "AWS_DEFAULT_REGION")
    region = (source.text("aws_region_name") if source else None) or first_variable(environment, regions)
    if not region:
        raise missing_credential("AWS_REGION_NAME", "bedrock")
    if not _REGION.fullmatch(region):
        raise MissingCredential("The region that is configured for Bedrock is none", param="AWS_REGION_NAME")
    if source is not None and source.model_name == model and source.upstream_model:
        upstream = source.upstream_model.removeprefix("converse/").removeprefix("invoke/")
        segments = tuple(upstream if segment == model else segment for segment in segments)
        model = upstream
    base = own_base or environment.get("AWS_BEDROCK_RUNTIME_ENDPOINT") or f"https://{_bedrock_host(segments, region)}"
    return Target(
        provider="bedrock",
        base=checked_base(base),
        path=encode_path(segments, is_strict=True),
        query=query,
        headers={"authorization": f"Bearer {bearer}"} if bearer else {},
        secrets=tuple(filter(None, (bearer, credentials.secret_access_key, credentials.session_token))),
        aws=None if bearer else credentials,
        region=region,
        source=source,
        model=model,
    )


def _aws_credentials(source: CredentialSource | None, environment: Mapping[str, str]) -> AwsCredentials:
    """The keys of a deployment, else those of the environment; never a mixture of both. Empty without any."""
    if source is not None and source.text("aws_access_key_id"):
        get = {name.upper(): source.text(name) or "" for name in source.params if name.startswith("aws_")}
    else:
        get = {name: value.strip() for name, value in environment.items() if name.startswith("AWS_")}
    key, secret = get.get("AWS_ACCESS_KEY_ID", ""), get.get("AWS_SECRET_ACCESS_KEY", "")
    return AwsCredentials(key if secret else "", secret if key else "", get.get("AWS_SESSION_TOKEN") or None)


def _bedrock_host(segments: tuple[str, ...], region: str) -> str:
    service = "bedrock-agent-runtime" if segments[0].lower() in _AGENT_RESOURCES else "bedrock-runtime"
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"{service}.{region}.{domain}"
