"""The fixture that runs Quarterdeck as a separate process."""

from __future__ import annotations

import signal

import httpx
import pytest

from tests.services.quarterdeck import QuarterdeckFactory
from tests.services.run_directory import is_running


def test_instance_is_alive_killed_and_back(quarterdeck_process: QuarterdeckFactory, sqlite_url: str) -> None:
    instance = quarterdeck_process(database_url=sqlite_url)
    first = instance.pid
    assert httpx.get(f"{instance.url}/health/liveliness").json() == "I'm alive!"

    instance.kill(signal.SIGKILL)
    assert not is_running(first)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{instance.url}/health/liveliness")

    instance.restart()
    assert instance.pid != first
    assert httpx.get(f"{instance.url}/health/liveliness").status_code == 200
    assert instance.log_text()


def test_instance_stops_when_asked(quarterdeck_process: QuarterdeckFactory) -> None:
    instance = quarterdeck_process()
    instance.kill(signal.SIGTERM)
    assert not instance.is_running


def test_instance_that_cannot_start_shows_its_log(quarterdeck_process: QuarterdeckFactory) -> None:
    with pytest.raises(RuntimeError, match="worker_registry: is not a list"):
        quarterdeck_process({"worker_registry": "no_such_list"})


def test_instances_on_one_postgres(quarterdeck_process: QuarterdeckFactory, migrated_postgres_url: str) -> None:
    for instance in [quarterdeck_process(database_url=migrated_postgres_url) for _ in range(2)]:
        assert httpx.get(f"{instance.url}/health/readiness").json()["db"] == "connected"
