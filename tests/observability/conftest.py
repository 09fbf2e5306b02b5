"""The workers of the tests of calls, for tests of what is told about calls."""

from tests.llm.conftest import (
    factory,
    http,
    key,
    model_list,
    refusing_port,
    upstream,
    upstream_port,
    worker,
    worker_process,
)

__all__ = [
    "factory",
    "http",
    "key",
    "model_list",
    "refusing_port",
    "upstream",
    "upstream_port",
    "worker",
    "worker_process",
]
