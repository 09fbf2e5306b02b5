"""The YAML file of the contract: includes, variables, its lists, and what is said about keys without effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings.config_file import ConfigFile, SettingsError, read_config_file

MODEL = {"model_name": "chat", "litellm_params": {"model": "openai/gpt-4o-mini"}}
WORKER = {"worker_id": "eu", "name": "Europe", "url": "https://eu.example.com/"}


def write(folder: Path, document: Any, name: str = "config.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def read(folder: Path, document: Any, **environ: str) -> ConfigFile:
    return read_config_file(write(folder, document), environ)


def refusal(folder: Path, document: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        read(folder, document)
    line = str(refused.value)
    assert "\n" not in line
    return line


# ---- the file itself -----------------------------------------------------------------------------------------------


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    file = read(tmp_path, "")
    assert (file.workers, file.model_list, file.warnings) == ((), (), [])


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("model_list: [", "line 1 is not valid YAML; check indentation and quotes"),
        ("a: 1\n\tb: 2", "line 2 is not valid YAML; check indentation and quotes"),
        ("- a\n- b", "the file is not a mapping; start it with keys such as model_list:"),
        ("just words", "the file is not a mapping; start it with keys such as model_list:"),
        ("general_settings: [a]", "general_settings: is not a mapping; write `key: value` lines below it"),
        ("router_settings: fast", "router_settings: is not a mapping; write `key: value` lines below it"),
        ("environment_variables: [A]", "environment_variables: is not a mapping; write `NAME: value` lines below it"),
        ("include: models.yaml", "include: is not a list of file names; write `include: [models.yaml]`"),
        ("include: [1]", "include: is not a list of file names; write `include: [models.yaml]`"),
    ],
)
def test_what_is_no_configuration_is_refused_with_its_fix(tmp_path: Path, text: str, fix: str) -> None:
    assert refusal(tmp_path, text) == f"config.yaml: {fix}"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.yaml: cannot be read .*; check --config or include$"):
        read_config_file(tmp_path / "absent.yaml", {})


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xfe\x00model_list")
    with pytest.raises(SettingsError, match=r"^config\.yaml:.* is not valid YAML"):
        read_config_file(path, {})


# ---- include -------------------------------------------------------------------------------------------------------


def test_included_files_join_lists_and_give_way_to_values(tmp_path: Path) -> None:
    write(tmp_path, {"model_list": [{**MODEL, "model_name": "deep"}]}, "parts/deep.yaml")
    write(
        tmp_path,
        {
            "include": ["deep.yaml"],
            "model_list": [{**MODEL, "model_name": "included"}],
            "general_settings": {"master_key": "sk-included", "max_request_size_mb": 5},
        },
        "parts/models.yaml",
    )
    file = read(
        tmp_path,
        {"include": ["parts/models.yaml"], "model_list": [MODEL], "general_settings": {"master_key": "sk-main"}},
    )
    assert [row["model_name"] for row in file.model_list] == ["chat", "included", "deep"]
    assert file.get("general_settings.master_key") == "sk-main"
    assert file.get("general_settings.max_request_size_mb") == 5


def test_a_nested_include_may_be_relative_to_the_main_file(tmp_path: Path) -> None:
    write(tmp_path, {"model_list": [MODEL]}, "models.yaml")
    write(tmp_path, {"include": ["models.yaml"]}, "parts/all.yaml")
    assert len(read(tmp_path, {"include": ["parts/all.yaml"]}).model_list) == 1


def test_files_that_include_each_other_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"include": ["config.yaml"]}, "other.yaml")
    line = refusal(tmp_path, {"include": ["other.yaml"]})
    assert line == "config.yaml: include: includes itself by way of other.yaml; remove one of the two"


def test_a_missing_include_is_named(tmp_path: Path) -> None:
    assert "models.yaml: cannot be read" in refusal(tmp_path, {"include": ["models.yaml"]})


# ---- variables -----------------------------------------------------------------------------------------------------


def test_variables_are_resolved_at_every_depth(tmp_path: Path) -> None:
    params = {"model": "os.environ/MODEL", "api_key": "os.environ/KEY", "extra_body": {"tags": ["os.environ/TAG", "b"]}}
    file = read(tmp_path, {"model_list": [{**MODEL, "litellm_params": params}]}, MODEL="openai/x", KEY="sk-1", TAG="a")
    (row,) = file.model_list
    assert row["litellm_params"] == {"model": "openai/x", "api_key": "sk-1", "extra_body": {"tags": ["a", "b"]}}


def test_a_variable_that_is_not_set_counts_as_no_value(tmp_path: Path) -> None:
    params = {"model": "openai/x", "api_key": "os.environ/ABSENT"}
    file = read(
        tmp_path,
        {
            "model_list": [{**MODEL, "litellm_params": params}],
            "general_settings": {"master_key": "os.environ/ABSENT"},
            "worker_registry": "os.environ/ABSENT",
        },
    )
    assert file.model_list[0]["litellm_params"]["api_key"] is None
    assert file.get("general_settings.master_key") is None
    assert file.workers == ()


def test_environment_variables_are_set_before_the_rest_is_read(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        {
            "environment_variables": {"KEY": "os.environ/OUTER", "PORT": 8080, "ABSENT": "os.environ/NOWHERE"},
            "general_settings": {"master_key": "os.environ/KEY"},
        },
        OUTER="sk-outer",
        PORT="4000",
    )
    assert file.get("general_settings.master_key") == "sk-outer"
    assert file.environment == {"OUTER": "sk-outer", "KEY": "sk-outer", "PORT": "8080"}


# ---- worker_registry -----------------------------------------------------------------------------------------------


def test_workers_keep_their_order_labels_and_environment(tmp_path: Path) -> None:
    second = {
        "worker_id": "us",
        "name": "America",
        "url": "http://us:4000",
        "labels": {"tier": 1},
        "environment": "test",
    }
    eu, us = read(tmp_path, {"worker_registry": [WORKER, second]}).workers
    assert (eu.worker_id, eu.name, eu.url, dict(eu.labels), eu.environment) == (
        "eu",
        "Europe",
        "https://eu.example.com",
        {},
        None,
    )
    assert (us.url, dict(us.labels), us.environment) == ("http://us:4000", {"tier": "1"}, "test")


@pytest.mark.parametrize(
    ("registry", "line"),
    [
        ({"eu": "https://eu"}, "worker_registry: is not a list"),
        (["eu"], "worker_registry[0]: is not a mapping; it needs worker_id, name and url"),
        ([{"name": "Europe", "url": "https://eu"}], "worker_registry[0].worker_id: is missing"),
        ([{**WORKER, "worker_id": " "}], "worker_registry[0].worker_id: is missing"),
        ([{**WORKER, "worker_id": 7}], "worker_registry[0].worker_id: is missing"),
        ([{"worker_id": "eu", "url": "https://eu"}], "worker_registry[0].name: is missing"),
        ([{"worker_id": "eu", "name": "Europe"}], "worker_registry[0].url: is missing"),
        ([{**WORKER, "url": "os.environ/ABSENT"}], "worker_registry[0].url: is missing"),
        ([WORKER, {**WORKER, "name": "Again"}], "worker_registry[1].worker_id: 'eu' is used twice"),
        ([{**WORKER, "worker_id": "e/u"}], "worker_registry[0].worker_id: 'e/u' has a slash"),
        ([{**WORKER, "url": "eu.example.com"}], "worker_registry[0].url: 'eu.example.com' is not an address"),
        ([{**WORKER, "url": "ftp://eu"}], "worker_registry[0].url: 'ftp://eu' is not an address"),
        ([{**WORKER, "url": "https://"}], "worker_registry[0].url: 'https://' is not an address"),
        ([{**WORKER, "url": "http://[::1"}], "worker_registry[0].url: 'http://[::1' cannot be read"),
        ([{**WORKER, "url": "http://eu:x"}], "worker_registry[0].url: 'http://eu:x' cannot be read"),
        ([{**WORKER, "labels": ["a"]}], "worker_registry[0].labels: is not a mapping"),
    ],
)
def test_a_wrong_worker_is_refused_by_its_place(tmp_path: Path, registry: Any, line: str) -> None:
    assert refusal(tmp_path, {"worker_registry": registry}).startswith(f"config.yaml: {line}")


@pytest.mark.parametrize("scheme", ["https", "ftp"])
def test_a_worker_address_with_a_password_is_refused_without_showing_it(tmp_path: Path, scheme: str) -> None:
    line = refusal(tmp_path, {"worker_registry": [{**WORKER, "url": f"{scheme}://root:hidden-word@eu"}]})
    assert line.startswith("config.yaml: worker_registry[0].url: holds a user name or password")
    assert "hidden-word" not in line


# ---- model_list ----------------------------------------------------------------------------------------------------


def test_a_list_of_models_that_is_none_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, {"model_list": {"chat": {}}}).startswith("config.yaml: model_list: is not a list")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("chat", "model_name: is missing"),
        ({"litellm_params": {"model": "openai/x"}}, "model_name: is missing"),
        ({"model_name": "x"}, "litellm_params.model: is missing; write provider/model"),
        ({"model_name": "x", "litellm_params": "openai/x"}, "litellm_params.model: is missing"),
        ({"model_name": "x", "litellm_params": {"model": 4}}, "litellm_params.model: is missing"),
        ({**MODEL, "model_info": ["id"]}, "model_info: is not a mapping"),
        ({"model_name": "x", "litellm_params": {"model": "os.environ/M"}}, "litellm_params.model: the variable M is"),
    ],
)
def test_a_wrong_model_has_its_problem_and_the_others_are_there(tmp_path: Path, row: Any, problem: str) -> None:
    wrong, good = read(tmp_path, {"model_list": [row, MODEL]}).model_list
    assert wrong["problem"].startswith(problem)
    assert isinstance(wrong["model_name"], str) and isinstance(wrong["litellm_params"], dict)
    assert good == MODEL


@pytest.mark.parametrize("variables", [{}, {"KEY": ""}, {"KEY": " \n"}])
@pytest.mark.parametrize("name", ["api_key", "api_base", "aws_secret_access_key", "vertex_project", "extra_headers"])
def test_a_target_that_no_variable_gives_is_a_problem(tmp_path: Path, name: str, variables: dict[str, str]) -> None:
    value: Any = {"x-a": "os.environ/KEY"} if name == "extra_headers" else "os.environ/KEY"
    row = {**MODEL, "litellm_params": {"model": "openai/x", name: value}}
    values = [{"credential_name": "c", "credential_values": {name: value}}]
    file = read(tmp_path, {"model_list": [row], "credential_list": values}, **variables)
    assert f"litellm_params.{name}" in file.model_list[0]["problem"]
    assert "the variable KEY is not set" in file.model_list[0]["problem"]
    assert f"credential_values.{name}" in file.credential_list[0]["problem"]


def test_another_parameter_that_no_variable_gives_is_absent_and_named(tmp_path: Path) -> None:
    row = {**MODEL, "litellm_params": {"model": "openai/x", "rpm": "os.environ/RPM"}}
    file = read(tmp_path, {"model_list": [row]})
    assert "problem" not in file.model_list[0]
    (warning,) = file.warnings
    assert "RPM (model_list[0].litellm_params.rpm)" in warning


# ---- keys without effect -------------------------------------------------------------------------------------------


def test_keys_that_are_not_supported_yet_are_one_warning_that_lists_them_all(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        {
            "guardrails": [{"guardrail_name": "pii"}],
            "general_settings": {"allowed_ips": ["10.0.0.1"], "max_request_size_mb": 5},
            "litellm_settings": {"drop_params": True, "s3_callback_params": {}},
            "router_settings": {"caching_groups": [["a", "b"]]},
            "model_list": [{**MODEL, "litellm_params": {"model": "openai/x", "tag_regex": ["a"], "temperature": 0}}],
        },
    )
    (warning,) = file.warnings
    assert warning == (
        "config.yaml: not supported yet and without effect: guardrails, general_settings.allowed_ips, "
        "litellm_settings.drop_params, litellm_settings.s3_callback_params, router_settings.caching_groups, "
        "litellm_params.tag_regex"
    )


def test_keys_that_nobody_knows_are_named_with_the_nearest_that_exists(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        {
            "modell_list": [],
            "worker_registy": [WORKER],
            "general_settings": {"masterkey": "sk-x", "zzz": 1},
            "worker_registry": [{**WORKER, "lables": {"a": "b"}}],
            "model_list": [{**MODEL, "blocked": True}],
            7: "seven",
        },
    )
    (warning,) = file.warnings
    assert warning.startswith("config.yaml: unknown and without effect: ")
    assert "worker_registy (did you mean worker_registry?)" in warning
    assert "general_settings.masterkey (did you mean general_settings.master_key?)" in warning
    for name in ("general_settings.zzz", "worker_registry.lables", "model_list.blocked", "7"):
        assert name in warning
    assert "sk-x" not in warning


def test_share_of_the_calls_may_stand_beside_the_parameters(tmp_path: Path) -> None:
    assert read(tmp_path, {"model_list": [{**MODEL, "rpm": 10, "tpm": 1000, "weight": 2}]}).warnings == []


def test_supported_keys_raise_no_warning(tmp_path: Path) -> None:
    assert read(tmp_path, {"model_list": [MODEL], "general_settings": {"master_key": "sk-x"}}).warnings == []


def test_kinds_of_failure_that_nobody_knows_are_named_and_dropped(tmp_path: Path) -> None:
    router = {
        "retry_policy": {"ImaginaryErrorRetries": 0, "RateLimitErrorRetries": 2},
        "allowed_fails_policy": {"RateLimitErrorRetries": 3},
        "model_group_retry_policy": {"chat": {"Nonsense": 1}},
    }
    row = {**MODEL, "model_info": {"allowed_fails_policy": {"Strange": 1}}}
    file = read(tmp_path, {"router_settings": router, "model_list": [row]})
    (warning,) = file.warnings
    for name in (
        "router_settings.retry_policy.ImaginaryErrorRetries",
        "router_settings.allowed_fails_policy.RateLimitErrorRetries",
        "router_settings.model_group_retry_policy.chat.Nonsense",
        "chat: model_info.allowed_fails_policy.Strange",
    ):
        assert name in warning
    assert file.get("router_settings.retry_policy") == {"RateLimitErrorRetries": 2}
    assert file.model_list[0]["model_info"] == {"allowed_fails_policy": {}}


# ---- credentials ---------------------------------------------------------------------------------------------------


def test_credentials_are_read_with_their_variables(tmp_path: Path) -> None:
    values = {"api_key": "os.environ/KEY", "api_base": "http://a/v1", "organization": "os.environ/NOT_SET"}
    file = read(tmp_path, {"credential_list": [{"credential_name": "a", "credential_values": values}]}, KEY="sk-1")
    (row,) = file.credential_list
    assert (row["credential_name"], row["credential_info"]) == ("a", {})
    assert row["credential_values"] == {"api_key": "sk-1", "api_base": "http://a/v1"}
    assert "sk-1" not in repr(file).replace(repr(file.environment), "")
    (warning,) = file.warnings
    assert "NOT_SET (credential_list[0].credential_values.organization)" in warning


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"a": 1}, "credential_list: is not a list"),
        ([5], "credential_list[0].credential_name: is missing"),
        ([{"credential_values": {}}], "credential_list[0].credential_name: is missing"),
        ([{"credential_name": "a"}], "credential_list[0].credential_values: is not a mapping"),
        (
            [{"credential_name": "a", "credential_values": {}}] * 2,
            "credential_list[1].credential_name: 'a' is used twice",
        ),
    ],
)
def test_wrong_credentials_are_named(tmp_path: Path, rows: Any, words: str) -> None:
    assert words in refusal(tmp_path, {"credential_list": rows})
