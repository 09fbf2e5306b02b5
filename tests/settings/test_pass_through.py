"""What a configured endpoint may say, and what it never shows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from app.settings.pass_through import endpoints, read_endpoint

WRITTEN = {"path": "/v9/rerank/", "target": "https://a.example/v1"}


def test_an_entry_with_nothing_but_the_necessary() -> None:
    endpoint = read_endpoint(WRITTEN)
    assert (endpoint.path, endpoint.target, endpoint.is_public, endpoint.has_subpaths) == (
        "/v9/rerank",
        "https://a.example/v1",
        False,
        False,
    )
    assert (endpoint.cost_per_request, endpoint.timeout, endpoint.methods) == (Decimal(0), None, None)


def test_an_entry_with_everything() -> None:
    row = {
        **WRITTEN,
        "id": "x",
        "headers": {"Authorization": "Bearer os.environ/KEY", "x-missing": None, "x-number": 7},
        "auth": False,
        "include_subpath": True,
        "default_query_params": {"size": 5},
        "cost_per_request": 0.01,
        "timeout": 3,
        "methods": ["get", "POST"],
        "guardrails": None,
        "forward_headers": True,
        "merge_query_params": True,
    }
    endpoint = read_endpoint(row)
    assert (endpoint.is_public, endpoint.has_subpaths, endpoint.forwards_headers, endpoint.merges_query) == (
        True,
        True,
        True,
        True,
    )
    assert endpoint.methods == frozenset({"GET", "POST"})
    assert (endpoint.query, endpoint.cost_per_request, endpoint.timeout) == ({"size": "5"}, Decimal("0.01"), 3.0)
    assert endpoint.headers == {"Authorization": "Bearer os.environ/KEY", "x-number": "7"}
    assert endpoint.resolved({"KEY": "secret\n"}).headers["Authorization"] == "Bearer secret"
    assert "Authorization" not in endpoint.resolved({}).headers
    assert str(endpoint) == "/v9/rerank -> a.example"
    assert "Bearer" not in repr(endpoint)


@pytest.mark.parametrize(
    "change",
    [
        {"path": None},
        {"path": "/"},
        {"path": "//x"},
        {"path": "/a/../b"},
        {"path": "/a?b"},
        {"path": "/ü"},
        {"path": "/a%2Fb"},
        {"target": None},
        {"target": "file:///etc/passwd"},
        {"target": "https://name:word@a.example"},
        {"target": "https://a.example/#x"},
        {"headers": ["a"]},
        {"headers": {"a b": "c"}},
        {"headers": {"a": "secret-value\nb: c"}},
        {"headers": {"a": {"b": "c"}}},
        {"default_query_params": "a=b"},
        {"cost_per_request": -1},
        {"cost_per_request": "1e30"},
        {"timeout": 0},
        {"methods": []},
        {"methods": ["TRACE"]},
        {"methods": "GET"},
        {"auth": "perhaps"},
    ],
)
def test_what_cannot_be_meant_is_refused_without_showing_headers(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"has an entry|has a path") as problem:
        read_endpoint({**WRITTEN, **change})
    assert "secret-value" not in str(problem.value)


def test_a_path_without_a_slash_in_front_gets_one() -> None:
    assert read_endpoint({**WRITTEN, "path": "rerank/"}).path == "/rerank"


@pytest.mark.parametrize("rows", ["x", {"path": "/x"}, ["x"], [WRITTEN, {**WRITTEN, "path": "/v9/rerank"}]])
def test_a_list_that_is_none_or_names_a_path_twice_is_refused(rows: Any) -> None:
    with pytest.raises(ValueError, match=r"is not a list|has an entry|has two entries for /v9/rerank"):
        endpoints(rows)
