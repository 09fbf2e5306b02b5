"""Deployments: from parameters to a target, its credential and its price; and the catalog that the calls read."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.deployments.catalog import Deployment, DeploymentCatalog, build_deployment
from app.models import Credential, StoredDeployment
from app.security.credentials import encrypt
from app.settings import Settings
from app.storage.database import Database
from tests.deployments.builders import SECRET, build, catalog_of, entry

# ---- targets and credentials ---------------------------------------------------------------------------------------


def test_headers_of_a_deployment_are_added() -> None:
    headers = {"x-team": "a", "x-none": None, "x-number": 7}
    deployment = build(api_key=SECRET, organization="org-1", extra_headers=headers)
    assert deployment.headers == {
        "Authorization": f"Bearer {SECRET}",
        "x-team": "a",
        "x-number": "7",
        "OpenAI-Organization": "org-1",
    }


def test_the_custom_provider_wins_over_the_prefix() -> None:
    deployment = build("meta/llama", custom_llm_provider="openai", api_base="http://local/v1")
    assert (deployment.provider.name, deployment.upstream_model) == ("openai", "meta/llama")


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"model": None}, "litellm_params.model is missing"),
        ({"model": ""}, "litellm_params.model is missing"),
        ({"model": "nobody/x"}, "'nobody' in 'nobody/x' is not a provider that we have"),
        ({"custom_llm_provider": "nobody"}, "custom_llm_provider 'nobody'"),
        ({"model": "vllm/x"}, "api_base is missing"),
        ({"model": "my-model"}, "write provider/model, as openai/my-model"),
        ({"model": "claude-sonnet-4-5", "api_key": "sk-a"}, "'anthropic' is served by pass-through only"),
        ({"api_base": "ftp://x"}, "is not an address"),
        ({"api_base": "api.openai.com/v1"}, "is not an address"),
        ({"api_base": "http://a:99999/v1"}, "is not an address"),
        ({"api_base": "http://[::1/v1"}, "is not an address"),
        ({"api_base": f"http://{'a' * 64}.example/v1"}, "is not an address"),
        ({"api_base": "http://user:word@provider/v1"}, "holds more than an address"),
        ({"api_base": "http://provider/v1?key=word"}, "holds more than an address"),
        ({"extra_headers": "x: y"}, "extra_headers is not a mapping"),
        ({"weight": "heavy"}, "litellm_params.weight 'heavy' is not a number"),
        ({"rpm": -1}, "litellm_params.rpm must be zero or more"),
        ({"timeout": "nan"}, "litellm_params.timeout must be zero or more"),
        ({"input_cost_per_token": "cheap"}, "input_cost_per_token is not an amount"),
    ],
)
def test_invalid_parameters_are_refused_with_what_to_write(params: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        build_deployment("group", {"model": "openai/m", **params}, None, {})


# ---- identity, defaults, prices ------------------------------------------------------------------------------------


def test_the_same_configuration_has_the_same_id_and_another_one_another() -> None:
    assert build(api_base="http://a/v1").id == build(api_base="http://a/v1").id
    assert build(api_base="http://a/v1").id != build(api_base="http://b/v1").id
    assert build(info={"id": "mine"}).id == "mine"


def test_unknown_parameters_are_defaults_of_the_body_and_known_ones_are_not() -> None:
    deployment = build(
        api_key=SECRET,
        api_base="http://a/v1",
        temperature=0.2,
        top_k=None,
        rpm=5,
        input_cost_per_second=1,
        aws_region_name="x",
        extra_body={"top_p": 0.5},
    )
    assert deployment.defaults == {"temperature": 0.2, "top_p": 0.5}


@pytest.mark.parametrize(
    "name",
    (
        "keepalive_seconds itpm client_secret allowed_openai_params base_model headers ssl_verify model_info "
        "region_name supports_system_message use_litellm_proxy custom_tokenizer litellm_trace_id mock_timeout "
        "default_fallbacks litellm_system_prompt hide_from_model_list client_certificate project_id fallbacks "
        "cache_key no-log"
    ).split(),
)
def test_parameters_of_the_gateway_never_reach_a_provider(name: str) -> None:
    params: dict[str, Any] = {name: "5"}
    assert build(**params).defaults == {}


def test_max_retries_is_another_name_of_num_retries() -> None:
    def retries(**params: Any) -> int | None:
        return build_deployment("m", {"model": "openai/m", **params}, None, {}).num_retries

    assert (retries(), retries(max_retries=3), retries(max_retries=3, num_retries=0)) == (None, 3, 0)


def test_prices_come_from_the_deployment_then_its_info_then_its_base_model_then_the_table() -> None:
    table = build().prices
    assert table is not None
    own = build(input_cost_per_token="1", info={"input_cost_per_token": "2"})
    assert own.input_cost_per_token == 1
    assert build(info={"input_cost_per_token": "2"}).input_cost_per_token == 2
    assert build("openai/my-name", info={"base_model": "gpt-4o-mini"}).prices == table
    assert build("azure/my-name", api_base="http://a", info={"base_model": "azure/gpt-4o-mini"}).prices is not None
    assert build("azure/my-name", api_base="http://a", base_model="gpt-4o-mini").prices == table
    assert build("hosted_vllm/my-name", api_base="http://a", base_model="gpt-4o-mini").prices == table
    assert build("hosted_vllm/my-name", api_base="http://a", base_model="openai/gpt-4o-mini").prices == table
    assert build("openrouter/openai/gpt-4o").prices is not None
    assert build("openai/my-name").prices is None
    assert build("openai/my-name").output_cost_per_token is None


def test_no_secret_is_shown() -> None:
    deployment = build(
        api_key=SECRET,
        extra_headers={"x-authorization": SECRET},
        aws_secret_access_key=SECRET,
        vertex_credentials=SECRET,
        password=SECRET,
        max_tokens=5,
        input_cost_per_token=0.1,
        cache_read_input_token_cost=0.01,
    )
    assert SECRET not in repr(deployment)
    shown = deployment.public_params()
    assert SECRET not in str(shown)
    assert {"model", "max_tokens", "input_cost_per_token", "cache_read_input_token_cost"} <= set(shown)


# ---- the catalog ---------------------------------------------------------------------------------------------------


async def test_a_name_has_all_its_deployments_and_an_id_has_one(sqlite_url: str, tmp_path: Path) -> None:
    models = (entry("b", id="1"), entry("a", id="2"), entry("b", id="3"))
    async with catalog_of(sqlite_url, tmp_path, *models) as catalog:
        assert catalog.names() == ["b", "a"]
        assert [member.id for member in catalog.deployments_of("b")] == ["1", "3"]
        assert [member.id for member in catalog.deployments_of("3")] == ["3"]
        assert catalog.deployments_of("nobody") == ()


async def test_weights_and_limits_may_stand_beside_the_parameters(sqlite_url: str, tmp_path: Path) -> None:
    async with catalog_of(sqlite_url, tmp_path, {**entry("a", rpm=5), "rpm": 1, "weight": 2}) as catalog:
        (deployment,) = catalog.deployments_of("a")
        assert (deployment.weight, deployment.rpm) == (2, 5)


async def test_a_stored_deployment_serves_and_is_encrypted(database_url: str, tmp_path: Path) -> None:
    async with catalog_of(database_url, tmp_path) as catalog:
        params = {"model": "openai/gpt-4o-mini", "api_key": SECRET, "api_base": "http://a/v1"}
        row = await catalog.add("stored", params, {"id": "s1"}, "alice")
        await catalog.reload()
        assert SECRET not in row.litellm_params
        (deployment,) = catalog.deployments_of("stored")
        assert deployment.is_stored and deployment.model_info["db_model"] is True
        assert deployment.headers["Authorization"] == f"Bearer {SECRET}"
    async with catalog_of(database_url, tmp_path) as other:
        assert other.names() == []
        await other.reload()
        assert [member.id for member in other.deployments_of("stored")] == ["s1"]
        await StoredDeployment.filter(model_id="s1").update(blocked=True)
        await other.reload()
        assert (other.names(), other.deployments_of("stored"), other.deployments_of("s1")) == ([], (), ())
        assert [member.is_blocked for member in other.all()] == [True]


@pytest.mark.parametrize("params", [{"model": "openai/m", "api_key": "os.environ/HOME"}, {"model": "nobody/x"}])
async def test_an_invalid_deployment_is_not_stored(
    migrated_sqlite_url: str, tmp_path: Path, params: dict[str, Any]
) -> None:
    async with catalog_of(migrated_sqlite_url, tmp_path) as catalog:
        with pytest.raises(ValueError, match=r"os\.environ|provider"):
            await catalog.add("stored", params, {}, "alice")
        assert await StoredDeployment.all().count() == 0


async def test_another_salt_key_leaves_stored_deployments_out(migrated_sqlite_url: str, tmp_path: Path) -> None:
    async with catalog_of(migrated_sqlite_url, tmp_path) as catalog:
        await catalog.add("stored", {"model": "openai/gpt-4o-mini", "api_key": SECRET}, {}, "alice")
    settings = Settings(master_key="sk-another", database_url=migrated_sqlite_url, model_list=(entry("configured"),))
    database = Database(settings)
    await database.open()
    other = DeploymentCatalog(settings, database)
    await other.reload()
    assert other.names() == ["configured"]
    await database.close()


async def test_prices_are_exact(sqlite_url: str, tmp_path: Path) -> None:
    async with catalog_of(sqlite_url, tmp_path, entry("a", input_cost_per_token=1.5e-7)) as catalog:
        assert catalog.deployments_of("a")[0].input_cost_per_token == Decimal("0.00000015")


# ---- headers and masked credentials --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [{"api_key": f"{SECRET}\nx: y"}, {"extra_headers": {"x-a": f"{SECRET}\r\nb: c"}}, {"api_key": f"{SECRET}\u00e9"}],
)
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one line of ASCII") as refused:
        build(**params)
    assert SECRET not in str(refused.value)


def test_a_text_of_a_provider_has_our_credentials_masked() -> None:
    deployment = build(api_key=SECRET, extra_headers={"x-token": "another-secret", "x-mode": "fast"})
    text = f"bad key {SECRET} (Bearer {SECRET}, another-secret), not fast"
    assert deployment.redacted(text) == "bad key **** (Bearer ****, ****), not fast"


@pytest.mark.parametrize("provider", [[], {}, 7])
def test_a_provider_that_is_not_text_is_refused(provider: Any) -> None:
    with pytest.raises(ValueError, match="custom_llm_provider"):
        build(custom_llm_provider=provider)


async def test_a_stored_deployment_of_another_shape_does_not_hide_the_others(migrated_sqlite_url: str) -> None:
    settings = Settings(database_url=migrated_sqlite_url, master_key="sk-master")
    database = Database(settings)
    await database.open()
    catalog = DeploymentCatalog(settings, database)
    with database.active():
        encrypted = encrypt("[1]", settings.salt_key)
        await StoredDeployment.create(model_id="odd", model_name="odd", litellm_params=encrypted)
        await catalog.add("good", {"model": "openai/gpt-4o-mini"}, {}, "alice")
    await catalog.reload()
    assert catalog.names() == ["good"]
    await database.close()


# ---- shared credentials, blocked deployments, deployments of a team ------------------------------------------------


CREDENTIALS = {"shared": {"api_key": SECRET, "api_base": "http://shared/v1", "organization": "org-1"}}


def with_credential(**params: Any) -> Deployment:
    params = {"model": "openai/m", "litellm_credential_name": "shared", **params}
    return build_deployment("group", params, None, {"OPENAI_API_KEY": "sk-environment"}, credentials=CREDENTIALS)


def test_a_deployment_s_own_parameters_override_its_credential() -> None:
    deployment = with_credential(api_base="http://own/v1", api_key="", temperature=1)
    assert deployment.api_base == "http://own/v1"
    assert deployment.headers == {"Authorization": f"Bearer {SECRET}", "OpenAI-Organization": "org-1"}
    assert deployment.defaults == {"temperature": 1}
    assert SECRET not in str(deployment.public_params()) and SECRET not in str(dict(deployment.params))
    assert deployment.public_params()["litellm_credential_name"] == "shared"


def test_another_value_of_a_credential_does_not_change_the_id() -> None:
    other = build_deployment(
        "group",
        {"model": "openai/m", "litellm_credential_name": "shared"},
        None,
        {},
        credentials={"shared": {"api_key": "another"}},
    )
    assert other.id == with_credential().id


def test_the_environment_s_key_is_not_sent_to_a_credential_s_address() -> None:
    credentials = {"shared": {"api_base": "http://shared/v1"}}
    params = {"model": "openai/m", "litellm_credential_name": "shared"}
    deployment = build_deployment("group", params, None, {"OPENAI_API_KEY": "sk-e"}, credentials=credentials)
    assert deployment.headers == {}


@pytest.mark.parametrize(("name", "problem"), [("zz", "no credential named 'zz'"), (5, "is not text")])
def test_an_unknown_credential_is_refused(name: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        with_credential(litellm_credential_name=name)


async def test_a_configured_deployment_waits_for_a_stored_credential(database_url: str, tmp_path: Path) -> None:
    models = (entry("a", litellm_credential_name="stored"), entry("b"))
    async with catalog_of(database_url, tmp_path, *models) as catalog:
        assert catalog.names() == ["b"]
        await catalog.reload()
        assert catalog.names() == ["b"]
        await Credential.create(credential_name="odd", credential_values="no ciphertext")
        await Credential.create(credential_name="stored", credential_values=catalog.encrypt({"api_key": SECRET}))
        await catalog.reload()
        assert catalog.names() == ["a", "b"]
        assert catalog.deployments_of("a")[0].headers == {"Authorization": f"Bearer {SECRET}"}
        (same,) = catalog.deployments_of("b")
        await catalog.reload()
        assert catalog.deployments_of("b")[0] is same


async def test_blocked_entries_of_the_file_are_listed_and_not_called(sqlite_url: str, tmp_path: Path) -> None:
    blocked = {**entry("a"), "model_info": {"id": "1", "blocked": True}}
    async with catalog_of(sqlite_url, tmp_path, blocked, entry("a", id="2"), entry("b", id="3")) as catalog:
        assert [member.id for member in catalog.all()] == ["1", "2", "3"]
        assert [member.id for member in catalog.deployments_of("a")] == ["2"]
        assert catalog.deployments_of("1") == ()


async def test_a_team_s_deployment_replaces_the_shared_ones(sqlite_url: str, tmp_path: Path) -> None:
    info = {"id": "t", "team_id": "team", "team_public_model_name": "a", "access_groups": ["beta"]}
    models = (entry("a", id="1"), {**entry("internal"), "model_info": info})
    async with catalog_of(sqlite_url, tmp_path, *models) as catalog:
        assert [member.id for member in catalog.deployments_of("a")] == ["1"]
        assert [member.id for member in catalog.deployments_of("a", "other")] == ["1"]
        assert [member.id for member in catalog.deployments_of("a", "team")] == ["t"]
        assert (
            catalog.deployments_of("internal"),
            catalog.deployments_of("t"),
            catalog.deployments_of("t", "other"),
        ) == ((), (), ())
        assert (catalog.names(), catalog.names("team")) == (["a"], ["a"])
        assert catalog.access_groups_of("a") == frozenset()
        assert catalog.access_groups_of("a", "team") == frozenset({"beta"})
        assert [member.id for member in catalog.access_groups()["beta"]] == ["t"]
