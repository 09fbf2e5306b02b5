"""One tree of errors, three shapes."""

from __future__ import annotations

import inspect

import pytest

from app import errors

_STATUS = {
    errors.InvalidRequest: 400,
    errors.PayloadTooLarge: 413,
    errors.Unauthenticated: 401,
    errors.KeyNotFound: 401,
    errors.Forbidden: 403,
    errors.ModelAccessDenied: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.BudgetExceeded: 422,
    errors.TooManyRequests: 429,
    errors.ServiceUnavailable: 503,
}


@pytest.mark.parametrize("kind", _STATUS)
def test_an_error_is_an_envelope_with_its_status_as_text(kind: type[errors.GatewayError]) -> None:
    error = kind("What went wrong")
    assert error.status == _STATUS[kind]
    body = error.body()["error"]
    assert list(body) == ["message", "type", "param", "code"]
    assert body["message"] == "What went wrong"
    assert body["code"] == str(_STATUS[kind])
    assert body["type"] == kind.type


def test_a_plain_authentication_error_writes_none_as_a_word() -> None:
    assert errors.Unauthenticated("no").body()["error"]["param"] == "None"
    assert errors.Unauthenticated("no", param="key").body()["error"]["param"] == "key"
    assert errors.NotFound("no").body()["error"]["param"] is None


def test_a_status_a_type_and_headers_can_be_given() -> None:
    error = errors.BudgetExceeded("too much", status=429, type="budget_exceeded", headers={"Retry-After": "9"})
    assert (error.status, error.body()["error"]["code"], error.headers) == (429, "429", {"Retry-After": "9"})


def test_our_own_outage_says_when_to_come_back() -> None:
    assert errors.ServiceUnavailable("away").headers == {"Retry-After": "2"}


def test_a_denial_of_the_framework_is_a_detail() -> None:
    assert errors.PlainDenial("no", status=403).body() == {"detail": "no"}
    assert errors.PlainDenial("no", status=403, is_nested=True).body() == {"detail": {"error": "no"}}


def test_wrong_fields_are_told_all_at_once() -> None:
    error = errors.ValidationFailed([("key.alias", "is missing", "missing"), ("", "is no object")])
    assert error.status == 422
    assert error.body() == {
        "detail": [
            {"type": "missing", "loc": ["body", "key", "alias"], "msg": "is missing"},
            {"type": "value_error", "loc": ["body"], "msg": "is no object"},
        ]
    }


def test_an_upstream_failure_says_whether_another_deployment_may_succeed() -> None:
    assert errors.UpstreamError("cut", status=503, is_retryable=True).is_retryable
    assert not errors.UpstreamError("bad", status=400).is_retryable


def test_the_tree_is_drawn_completely() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.GatewayError)]
    assert [kind.__name__ for kind in kinds if kind.__name__ not in (errors.__doc__ or "")] == []
