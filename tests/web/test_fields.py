"""The table of fields: what each kind accepts, and in which words it refuses."""

from __future__ import annotations

from decimal import Decimal

import pytest

from app.admin.keys.fields import NEW_KEY, key_columns
from app.errors import InvalidRequest, ValidationFailed
from app.web.fields import Field, duration, email, flag, identifier, listed, money, read_fields, records, text, whole


@pytest.mark.parametrize(
    ("body", "field", "kind"),
    [
        ({"max_budget": "much"}, "max_budget", "float_parsing"),
        ({"max_budget": "NaN"}, "max_budget", "finite_number"),
        ({"max_budget": True}, "max_budget", "float_type"),
        ({"models": "sample-chat"}, "models", "list_type"),
        ({"models": [1]}, "models", "string_type"),
        ({"metadata": "text"}, "metadata", "dict_type"),
        ({"metadata": {"a": "\x00"}}, "metadata", "value_error"),
        ({"key_alias": 5}, "key_alias", "string_type"),
        ({"key_alias": "x" * 256}, "key_alias", "string_too_long"),
        ({"key_alias": "a\x00b"}, "key_alias", "value_error"),
        ({"tpm_limit": Decimal("1.5")}, "tpm_limit", "int_from_float"),
        ({"tpm_limit": 2**63}, "tpm_limit", "less_than_equal"),
        ({"blocked": "perhaps"}, "blocked", "bool_parsing"),
        ({"key_type": "golden"}, "key_type", "enum"),
    ],
)
def test_wrong_types_are_named(body: dict[str, object], field: str, kind: str) -> None:
    with pytest.raises(ValidationFailed) as refusal:
        read_fields(body, NEW_KEY)
    assert [(problem["loc"], problem["type"]) for problem in refusal.value.problems] == [(["body", field], kind)]


@pytest.mark.parametrize(
    ("field", "sent", "value"),
    [
        (money(), Decimal("0.1"), Decimal("0.1")),
        (money(), "0.1", Decimal("0.1")),
        (money(), 3, Decimal(3)),
        (money(), "", None),
        (money(), None, None),
        (whole(), "5", 5),
        (whole(), Decimal("5.0"), 5),
        (whole(), "", None),
        (flag(), "true", True),
        (flag(), None, False),
        (identifier(), "", None),
        (identifier(), " a ", "a"),
        (email(), "Ada@Acme.Example", "ada@acme.example"),
        (listed(), "a, b,,c", ["a", "b", "c"]),
        (duration(), "30D", "30d"),
        (duration(), "", None),
        (records({"a": text()}), {"a": "one"}, [{"a": "one"}]),
    ],
)
def test_what_each_kind_accepts(field: Field, sent: object, value: object) -> None:
    assert read_fields({"field": sent}, {"field": field}) == {"field": value}


def test_absent_stays_absent() -> None:
    assert read_fields({}, NEW_KEY) == {}


def test_required_fields_must_be_there_and_not_null() -> None:
    for sent, kind in (({}, "missing"), ({"name": None}, "null_not_allowed")):
        with pytest.raises(ValidationFailed) as refusal:
            read_fields(sent, {"name": text().required})
        assert refusal.value.problems[0]["type"] == kind


@pytest.mark.parametrize("value", [-1, Decimal("-0.000001"), 10**16, "1e30"])
def test_impossible_money_is_a_400(value: object) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read_fields({"max_budget": value}, {"max_budget": money()})
    assert (refusal.value.status, refusal.value.param) == (400, "max_budget")


def test_metadata_is_replaced_but_keeps_its_service_account() -> None:
    stored = {"service_account_id": "svc", "owner": "ops", "tags": ["a"]}
    assert key_columns({"metadata": {"b": 1}}, stored)["metadata"] == {"b": 1, "service_account_id": "svc"}
    assert key_columns({"tags": ["c"]}, stored)["metadata"] == {**stored, "tags": ["c"]}
    assert "metadata" not in key_columns({"max_budget": None}, stored)


def test_a_temporary_increase_needs_its_end() -> None:
    with pytest.raises(ValidationFailed):
        key_columns(read_fields({"temp_budget_increase": 5}, NEW_KEY))
    # fixed date: a form of it, not a time
    sent = read_fields({"temp_budget_increase": 5, "temp_budget_expiry": "2026-11-21T20:18:00Z"}, NEW_KEY)
    metadata = key_columns(sent)["metadata"]
    # fixed date: that of above
    assert metadata == {"temp_budget_increase": 5.0, "temp_budget_expiry": "2026-11-21T20:18:00+00:00"}
