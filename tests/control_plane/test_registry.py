"""Workers come from the configuration alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from app.control_plane.registry import Contact, UnsafeAddress, Worker, WorkerRegistry
from app.settings.config_file import WorkerEntry


def _registry(*entries: WorkerEntry, proxy_base_url: str | None = None) -> WorkerRegistry:
    return WorkerRegistry.from_settings(SimpleNamespace(workers=entries, proxy_base_url=proxy_base_url, port=4000))


def test_an_instance_without_registry_has_one_worker_itself() -> None:
    registry = _registry(proxy_base_url="https://gw.example/")
    assert [worker.worker_id for worker in registry.workers] == ["self"]
    assert registry.own is registry.workers[0]
    assert registry.own.is_self and registry.own.name == "This worker" and registry.own.url == "https://gw.example"
    assert not registry.is_control_plane


def test_a_control_plane_is_not_among_its_own_workers() -> None:
    registry = _registry(WorkerEntry("eu", "EU", "http://eu/", {"region": "eu-west-1"}, "Prod"))
    assert registry.is_control_plane
    assert registry.get("self") is None and registry.get(registry.own.worker_id) is None
    worker = registry.get("eu")
    assert worker is not None
    assert (worker.url, worker.place, worker.environment_kind) == ("http://eu", "eu-west-1", "production")


@pytest.mark.parametrize("url", ["http://169.254.169.254", "http://[fe80::1]:80", "http://metadata.google.internal"])
def test_metadata_addresses_are_refused(url: str) -> None:
    with pytest.raises(UnsafeAddress, match="evil"):
        _registry(WorkerEntry("evil", "Evil", url))


@pytest.mark.parametrize(
    ("environment", "kind"),
    [("production", "production"), ("staging", "staging"), ("lab", "development"), (None, "development")],
)
def test_unknown_environments_use_the_quiet_colour(environment: str | None, kind: str) -> None:
    assert Worker("w", "W", "http://w", {}, environment).environment_kind == kind


def test_contact_tells_old_answers_from_live_ones() -> None:
    contact = Contact()
    assert contact.state == "unknown"
    contact.answered(200, 12)
    assert contact.state == "healthy"
    contact.failed()
    contact.failed()
    assert (contact.state, contact.failures, contact.last_status) == ("unreachable", 2, 200)
    contact.last_failure_at = datetime.now(UTC) - timedelta(minutes=5)
    assert contact.state == "unknown"
    contact.answered(200, 9)
    assert contact.failing_since is None and contact.state == "healthy"
    contact.last_answer_at = datetime.now(UTC) - timedelta(minutes=5)
    assert contact.state == "unknown"
