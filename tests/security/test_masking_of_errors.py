"""No error of the configuration, and no answer about a model or an endpoint, repeats a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.deployments.catalog import DeploymentCatalog
from app.deployments.deployment import build_deployment
from app.security.masking import MASK, masked, masked_text, without_values
from app.settings import load_settings
from app.settings.config_file import SettingsError
from app.storage.database import Database

SECRET = "Bearer-SECRET-9876"
ENVIRON = {
    "LITELLM_MASTER_KEY": "sk-master-0123456789abcdef",
    "HIDDEN": SECRET,
    "SHORT": "abc",
    "MODEL": f"{SECRET}/m",
    "LINES": f"{SECRET}\nx",
}
ENDPOINT = {
    "path": "/rerank",
    "target": "https://api.example.com/rerank?code=own-query-secret",
    "headers": {"Authorization": "os.environ/HIDDEN", "x-literal": "own-header-secret"},
    "default_query_params": {"subscription": "own-parameter-secret"},
}


def error_of(tmp_path: Path, document: dict[str, Any]) -> str:
    """The message with which an instance of this file does not start: a strict one, which leaves no deployment out."""
    document = {**document, "general_settings": {**(document.get("general_settings") or {}), "strict": True}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(SettingsError) as problem:
        settings = load_settings(path, ENVIRON)
        DeploymentCatalog(settings, Database(settings))
    return str(problem.value)


def endpoint(**change: Any) -> dict[str, Any]:
    return {"general_settings": {"pass_through_endpoints": [{**ENDPOINT, **change}]}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"path": "rerank?x"}, "no plain path"),
        ({"path": None}, "without a path"),
        ({"target": "api.example.com/rerank?code=own-query-secret"}, "target is not an address"),
        ({"target": "os.environ/HIDDEN"}, "target is not an address"),
        ({"target": "https://name:own-query-secret@api.example.com"}, "target holds more than an address"),
        ({"auth": "perhaps"}, "auth is not a yes or no"),
        ({"auth": "os.environ/HIDDEN"}, "auth is not a yes or no"),
        ({"timeout": "os.environ/HIDDEN"}, "timeout is not a number"),
        ({"methods": ["os.environ/HIDDEN"]}, "methods is not a list"),
        ({"headers": {"Authorization": "os.environ/LINES"}}, "to a value that would not be one line"),
        ({"headers": "os.environ/HIDDEN"}, "headers is not a mapping"),
        ({"cost_per_request": "os.environ/HIDDEN"}, "cost_per_request is not an amount"),
    ],
)
def test_a_mistake_in_an_endpoint_is_named_without_its_secrets(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    message = error_of(tmp_path, endpoint(**change))
    assert said in message
    assert "pass_through_endpoints" in message
    assert "SECRET" not in message and "own-" not in message


@pytest.mark.parametrize("change", [{"path": "rerank"}, {"auth": "true"}, {"path": "rerank/", "auth": "True"}])
def test_what_the_field_writes_differently_is_taken(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(endpoint(**change)), encoding="utf-8")
    (read,) = load_settings(path, ENVIRON).pass_through_endpoints
    assert (read.path, read.is_public) == ("/rerank", False)
    assert "own-" not in f"{read!r} {read}"


def test_a_typed_reading_masks_unknown_lists(tmp_path: Path) -> None:
    """A value of several parts is never repeated: what is in it may be anything."""
    message = error_of(tmp_path, {"general_settings": {"pass_through_endpoints": {"headers": {"a": "own-secret"}}}})
    assert "own-secret" not in message and "is not a list" in message


@pytest.mark.parametrize(
    "document",
    [
        {"general_settings": {"pass_through_request_timeout": "os.environ/HIDDEN"}},
        {"general_settings": {"pass_through_request_timeout": "os.environ/SHORT"}},
        {"general_settings": {"pass_through_request_timeout": "os.environ/LINES"}},
        {"litellm_settings": {"cache": True, "cache_params": {"type": "os.environ/HIDDEN"}}},
        {"router_settings": {"routing_strategy": "os.environ/HIDDEN"}},
        {"router_settings": {"model_group_alias": {"os.environ/HIDDEN": 5, "a": "os.environ/HIDDEN"}, "timeout": "x"}},
        {"environment_variables": {"A_PASSWORD": SECRET}, "router_settings": {"timeout": "os.environ/A_PASSWORD"}},
        {"worker_registry": [{"worker_id": "a", "name": "n", "url": "os.environ/HIDDEN"}]},
        {"worker_registry": [{"worker_id": "os.environ/HIDDEN", "name": "n", "url": "http://a.example"}] * 2},
        {"credential_list": [{"credential_name": "os.environ/HIDDEN", "credential_values": {}}] * 2},
        {"model_list": [{"model_name": "m", "litellm_params": {"model": "os.environ/MODEL"}}]},
        {"model_list": [{"model_name": "m", "litellm_params": {"model": "openai/m", "rpm": "os.environ/HIDDEN"}}]},
        {"model_list": [{"model_name": "m", "litellm_params": {"model": "openai/m", "api_base": "os.environ/HIDDEN"}}]},
        {"model_list": [{"model_name": "m", "litellm_params": {"model": f"{SECRET}/m", "api_key": SECRET}}]},
    ],
)
def test_no_error_of_the_configuration_holds_a_value_of_a_variable(tmp_path: Path, document: dict[str, Any]) -> None:
    message = error_of(tmp_path, document)
    assert SECRET not in message and SECRET.lower() not in message and "'abc'" not in message
    assert message.startswith("config.yaml: ")


def test_a_plain_mistake_is_still_shown(tmp_path: Path) -> None:
    assert "'soon'" in error_of(tmp_path, {"router_settings": {"timeout": "soon"}})


def test_an_error_masks_what_looks_like_a_secret() -> None:
    message = str(SettingsError("cannot use https://a:hunter22@h.example/?api_key=own-secret and sk-0123456789abcdef"))
    assert message == f"cannot use https://a:{MASK}@h.example/?api_key={MASK} and sk-{MASK}"
    assert masked_text("see https://h.example/a?b=c") == "see https://h.example/a?b=c"


def test_short_values_are_masked_in_quotes_only() -> None:
    assert without_values("a 'a' is no cat, cat5", ["a", "cat5", ""]) == f"a '{MASK}' is no cat, {MASK}"


# ---- answers -------------------------------------------------------------------------------------------------------


def test_answers_show_no_extra_body_and_no_query_of_an_address() -> None:
    params = {
        "model": "openai/m",
        "temperature": 0.5,
        "extra_body": {"user": "own-body-secret", "deep": {"a": "own-b"}},
    }
    credential = {"shared": {"api_key": "own-key", "tenant": "own-shared-secret"}}
    built = build_deployment(
        "m", {**params, "litellm_credential_name": "shared"}, None, {}, credentials=credential, is_stored=True
    )
    assert "own-" not in str(built.public_params())
    assert built.public_defaults() == {"temperature": 0.5, "user": MASK, "deep": {"a": MASK}, "tenant": MASK}
    assert built.defaults["user"] == "own-body-secret"
    assert "own-" not in str(masked(ENDPOINT))
    plain = "https://a.example/x?api-version=2024-10-21"
    assert masked({"target": plain}) == {"target": plain}
