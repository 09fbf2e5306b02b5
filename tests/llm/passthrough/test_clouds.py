"""Vertex AI and Bedrock: hosts from valid regions, credentials from one place."""

from __future__ import annotations

from typing import Any

import pytest

from app.errors import InvalidRequest
from app.llm.passthrough.sources import CredentialSource, MissingCredential, Target
from app.llm.passthrough.targets import target_of

GOOGLE = {
    "DEFAULT_VERTEXAI_PROJECT": "project-one",
    "DEFAULT_VERTEXAI_LOCATION": "us-central1",
    "DEFAULT_GOOGLE_APPLICATION_CREDENTIALS": "/account.json",
}
AWS = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "secret-1", "AWS_REGION_NAME": "us-east-1"}
WHOLE = "v1/projects/project-one/locations/europe-west4/publishers/google/models/g:generateContent"


def source_of(name: str = "m", upstream: str = "m", **params: Any) -> CredentialSource:
    return CredentialSource(id="d-1", model_name=name, upstream_model=upstream, params=params)


def vertex(path: str, *sources: CredentialSource, environment: dict[str, str] = GOOGLE, model: str = "g") -> Target:
    return target_of("vertex_ai", tuple(path.split("/")), [], model, environment, sources)


def bedrock(path: str, *sources: CredentialSource, environment: dict[str, str] = AWS, model: str = "") -> Target:
    return target_of("bedrock", tuple(path.split("/")), [], model, environment, sources)


# ---- Vertex AI -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "url"),
    [
        (WHOLE, f"https://europe-west4-aiplatform.googleapis.com/{WHOLE}"),
        (
            "publishers/google/models/g:generateContent",
            "https://us-central1-aiplatform.googleapis.com/v1/projects/project-one/locations/us-central1/"
            "publishers/google/models/g:generateContent",
        ),
        (
            "v1beta1/endpoints/7:predict",
            "https://us-central1-aiplatform.googleapis.com/v1beta1/projects/project-one/locations/us-central1/"
            "endpoints/7:predict",
        ),
        (
            "v1/projects/p/locations/global/publishers/x",
            "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/x",
        ),
        (
            "v1/projects/p/locations/eu/publishers/x",
            "https://aiplatform.eu.rep.googleapis.com/v1/projects/p/locations/eu/publishers/x",
        ),
        ("discovery/v1/projects/p/x", "https://discoveryengine.googleapis.com/v1/projects/p/x"),
    ],
)
def test_the_target_of_vertex_calls(path: str, url: str) -> None:
    target = vertex(path)
    assert f"{target.base}{target.path}" == url
    assert (target.service_account, target.headers) == ("/account.json", {})


@pytest.mark.parametrize("location", ["evil.example", "us-central1.evil.example", "a@b", "x", "us-central1:80", "US"])
def test_an_invalid_location_is_refused(location: str) -> None:
    with pytest.raises(InvalidRequest):
        vertex(f"v1/projects/p/locations/{location}/publishers/x")


def test_the_deployment_of_the_project_lends_its_account() -> None:
    sources = [
        source_of(vertex_project="project-one", vertex_location="europe-west4", vertex_credentials="one"),
        source_of(vertex_project="project-two", vertex_location="us-east5", vertex_credentials="two"),
    ]
    assert vertex(WHOLE, *sources).service_account == "one"
    assert vertex(WHOLE.replace("project-one", "project-two"), *sources).service_account == "two"
    assert vertex(WHOLE.replace("project-one", "project-three"), *sources).service_account == "/account.json"
    bare = vertex("publishers/google/models/g:x", *sources, environment={})
    assert (bare.service_account, bare.base) == ("one", "https://europe-west4-aiplatform.googleapis.com")


def test_the_account_of_the_environment_never_goes_to_the_address_of_a_deployment() -> None:
    elsewhere = source_of("g", vertex_project="project-one", api_base="https://elsewhere.example")
    with pytest.raises(MissingCredential):
        vertex(WHOLE, elsewhere)


@pytest.mark.parametrize("missing", GOOGLE)
def test_a_missing_setting_of_vertex_is_named(missing: str) -> None:
    environment = {name: value for name, value in GOOGLE.items() if name != missing}
    with pytest.raises(MissingCredential) as refused:
        vertex("publishers/google/models/g:x", environment=environment)
    assert refused.value.param == missing


# ---- Bedrock -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "region", "url"),
    [
        ("model/a:0/converse", "eu-west-1", "https://bedrock-runtime.eu-west-1.amazonaws.com/model/a%3A0/converse"),
        ("agents/x/y", "us-gov-west-1", "https://bedrock-agent-runtime.us-gov-west-1.amazonaws.com/agents/x/y"),
        ("knowledgebases/x/retrieve", "cn-north-1", "https://bedrock-agent-runtime.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_the_target_of_bedrock_calls(path: str, region: str, url: str) -> None:
    target = bedrock(path, environment={**AWS, "AWS_REGION_NAME": region})
    assert f"{target.base}{target.path}".startswith(url)
    assert target.aws is not None
    assert (target.aws.access_key_id, target.region) == ("AKIA1", region)


@pytest.mark.parametrize("region", ["evil.example", "us-east-1.evil", "us-east-1/x", "x", "us-east-1@evil"])
def test_an_invalid_region_is_refused(region: str) -> None:
    with pytest.raises(MissingCredential):
        bedrock("model/a/converse", environment={**AWS, "AWS_REGION_NAME": region})


def test_a_model_name_of_ours_becomes_the_provider_s() -> None:
    source = source_of(
        "claude",
        "converse/eu.anthropic.claude-v1:0",
        aws_access_key_id="AKIA2",
        aws_secret_access_key="secret-2",
        aws_region_name="eu-west-1",
    )
    target = bedrock("model/claude/converse", source, model="claude")
    assert target.path == "/model/eu.anthropic.claude-v1%3A0/converse"
    assert target.model == "eu.anthropic.claude-v1:0"
    assert target.aws is not None
    assert (target.aws.access_key_id, target.region) == ("AKIA2", "eu-west-1")


def test_keys_of_two_origins_are_never_mixed() -> None:
    half = source_of(aws_access_key_id="AKIA2", aws_region_name="eu-west-1")
    with pytest.raises(MissingCredential):
        bedrock("model/a/converse", half, environment={})
    elsewhere = source_of(aws_bedrock_runtime_endpoint="https://other.example", aws_region_name="eu-west-1")
    with pytest.raises(MissingCredential):
        bedrock("model/a/converse", elsewhere)


def test_a_bearer_token_replaces_a_signature() -> None:
    environment = {"AWS_BEARER_TOKEN_BEDROCK": "token-of-bedrock", "AWS_REGION": "us-east-1"}
    target = bedrock("model/a/converse", environment=environment)
    assert (target.headers, target.aws) == ({"authorization": "Bearer token-of-bedrock"}, None)
