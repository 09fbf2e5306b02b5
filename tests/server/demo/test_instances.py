"""What the four processes of the demo are started with."""

from __future__ import annotations

import socket
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.server.demo import instances
from app.server.demo.instances import Instance, child_environment, is_free, plan_instances
from app.server.demo.state import DemoError
from tests.services.ports import free_port

BASE_PORT = free_port(100)


def planned(tmp_path: Path, environ: dict[str, str] | None = None) -> dict[str, Instance]:
    return {instance.name: instance for instance in plan_instances(BASE_PORT, tmp_path, environ or {})[0]}


def config_of(instance: Instance) -> dict[str, Any]:
    path = Path(instance.command[instance.command.index("--config") + 1])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = yaml.safe_load(path.read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_ports_databases_and_secrets_are_apart(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert [plan[name].port for name in ("control-plane", "worker-a", "worker-b", "sample-provider")] == [
        BASE_PORT,
        BASE_PORT + 1,
        BASE_PORT + 2,
        BASE_PORT + 99,
    ]
    gateways = [instance for instance in plan.values() if instance.credentials is not None]
    for name in ("LITELLM_MASTER_KEY", "UI_PASSWORD", "DATABASE_URL", "QUARTERDECK_STATE_DIR"):
        assert len({gateway.environment[name] for gateway in gateways}) == 3
    assert plan["worker-a"].environment["DATABASE_URL"] == f"sqlite:///{tmp_path}/worker-a/quarterdeck.db"


def test_second_plan_knows_the_secrets_of_the_first(tmp_path: Path) -> None:
    assert planned(tmp_path) == planned(tmp_path)


def test_configuration(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    registry = config_of(plan["control-plane"])["worker_registry"]
    assert [(row["worker_id"], row["name"], row["url"]) for row in registry] == [
        ("worker-a", "Worker A", f"http://localhost:{BASE_PORT + 1}"),
        ("worker-b", "Worker B", f"http://localhost:{BASE_PORT + 2}"),
    ]
    worker = config_of(plan["worker-b"])
    assert worker["general_settings"] == {"control_plane_url": f"http://localhost:{BASE_PORT}"}
    assert [row["model_name"] for row in worker["model_list"]] == [
        "sample-chat",
        "sample-chat-mini",
        "sample-embedding",
    ]
    chat = worker["model_list"][0]["litellm_params"]
    assert chat["api_base"] == f"{plan['sample-provider'].url}/v1"
    assert all(isinstance(row["litellm_params"]["input_cost_per_token"], float) for row in worker["model_list"])


def test_openai_models_for_those_who_have_an_account(tmp_path: Path) -> None:
    plan = planned(tmp_path, {"OPENAI_API_KEY": "sk-real"})
    text = Path(plan["worker-a"].command[5]).read_text()
    assert "openai/gpt-4o-mini" in text and "openai/text-embedding-3-small" in text
    assert "sk-real" not in text
    assert plan["worker-a"].environment["OPENAI_API_KEY"] == "sk-real"


def test_children_do_not_get_settings_of_another_instance() -> None:
    foreign = ("LITELLM_SALT_KEY", "DATABASE_URL", "REDIS_URL", "PORT", "HOST", "UI_PASSWORD", "DISABLE_ADMIN_UI")
    given = dict.fromkeys(foreign, "x") | {"PATH": "/bin", "HOME": "/root", "NO_PROXY": "intra"}
    assert child_environment(given) == {
        "PATH": "/bin",
        "HOME": "/root",
        "NO_PROXY": "intra,localhost,127.0.0.1",
        "no_proxy": "localhost,127.0.0.1",
    }


def test_busy_port_is_named_with_the_fix(tmp_path: Path) -> None:
    port = free_port(3) + 1
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
        with pytest.raises(DemoError, match=rf'port {port} is busy.*make demo ARGS="--base-port {port + 299}"'):
            plan_instances(port - 1, tmp_path, {})
    assert is_free(port)


@pytest.mark.parametrize("base_port", [-1, 0, 65500, 70000])
def test_base_port_out_of_range(base_port: int, tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="out of range"):
        plan_instances(base_port, tmp_path, {})


def test_provider_moves_to_a_free_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", BASE_PORT + instances.PROVIDER_OFFSET)):
        plan = planned(tmp_path)
    assert plan["sample-provider"].port != BASE_PORT + instances.PROVIDER_OFFSET
    assert f":{plan['sample-provider'].port}/v1" in Path(plan["worker-a"].command[5]).read_text()
