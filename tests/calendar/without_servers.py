"""A plugin of pytest: leave out the tests that want PostgreSQL or Redis, which keep their own clock."""

from __future__ import annotations

import pytest

_SERVERS = {"postgres_server", "redis_server_url"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanting = [item for item in items if _wants_server(item)]
    config.hook.pytest_deselected(items=wanting)
    items[:] = [item for item in items if item not in set(wanting)]


def _wants_server(item: pytest.Item) -> bool:
    """Also by the parameter of `database_url`, which gets its server only when it runs."""
    fixtures, call = getattr(item, "fixturenames", ()), getattr(item, "callspec", None)
    return not _SERVERS.isdisjoint(fixtures) or (call is not None and "postgres" in call.params.values())
