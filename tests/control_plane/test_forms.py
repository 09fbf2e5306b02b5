"""What a person typed becomes typed fields, or a sentence beside the field."""

from __future__ import annotations

from decimal import Decimal

import pytest
from werkzeug.datastructures import MultiDict

from app.control_plane.forms import Form, jsonable
from app.control_plane.registry import Worker
from app.control_plane.worker_errors import WorkerRefused


def _form(**values: str) -> Form:
    return Form.submitted(MultiDict(values))


@pytest.mark.parametrize(("typed", "amount"), [("25", "25"), ("$1,200.50", "1200.50"), (" 0 ", "0"), ("", None)])
def test_an_amount_is_read_as_people_write_it(typed: str, amount: str | None) -> None:
    form = _form(max_budget=typed)
    assert form.amount("max_budget") == (None if amount is None else Decimal(amount))
    assert form.is_valid


@pytest.mark.parametrize("typed", ["-1", "many", "NaN", "Infinity"])
def test_what_is_no_amount_is_said_at_its_field(typed: str) -> None:
    form = _form(max_budget=typed)
    assert form.amount("max_budget") is None
    assert "amount in USD" in form.errors["max_budget"] and not form.is_valid


@pytest.mark.parametrize(("typed", "number"), [("100", 100), ("1,000", 1000), ("", None), ("1.5", None), ("-3", None)])
def test_a_whole_number_has_no_sign_and_no_fraction(typed: str, number: int | None) -> None:
    form = _form(rpm_limit=typed)
    assert form.whole("rpm_limit") == number
    assert form.is_valid == (number is not None or not typed)


def test_a_required_field_says_what_it_wants() -> None:
    form = _form(team_alias="  ")
    assert form.required("team_alias", "Give the team a name.") == ""
    assert form.errors == {"team_alias": "Give the team a name."}


def test_lists_are_read_whole_and_the_token_of_the_form_is_no_value() -> None:
    sent = MultiDict([("models", "a"), ("models", ""), ("models", "b"), ("csrf_token", "x")])
    assert Form.submitted(sent, lists=("models",)).values == {"models": ["a", "b"]}


def test_a_secret_is_read_once() -> None:
    form = Form.submitted(MultiDict({"api_key": "sk-1", "model": "m"}), secrets=("api_key",))
    assert form.text("api_key") == "sk-1"
    form.forget_secrets()
    assert form.values == {"model": "m"}


def test_a_refusal_stands_at_the_field_that_it_names_or_above_the_form() -> None:
    worker = Worker("eu", "EU", "http://eu")
    form = _form(user_email="bob@acme.example")
    form.refused(WorkerRefused(worker, "taken", status=400, fields={"user_email": "is taken"}, request_id="r1"))
    assert (form.errors, form.problem, form.request_id) == ({"user_email": "is taken"}, "", "r1")
    form = _form(user_email="bob@acme.example")
    form.refused(WorkerRefused(worker, "no such team", status=400, fields={"team": "unknown"}))
    assert (form.errors, form.problem) == ({}, "EU answered 400: no such team")


def test_money_is_sent_as_a_json_number() -> None:
    assert jsonable({"max_budget": Decimal("12.5"), "models": ["a"]}) == {"max_budget": 12.5, "models": ["a"]}
