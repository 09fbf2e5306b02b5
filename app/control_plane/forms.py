"""Parsing what a person typed: text to typed fields of the contract, with a sentence for each thing that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from werkzeug.datastructures import MultiDict

from .formatting import whole_number
from .worker_errors import WorkerRefused

PERIODS = (("", "Never"), ("1d", "Every day"), ("7d", "Every 7 days"), ("30d", "Every 30 days"))


@dataclass
class Form:
    """What is shown in the fields, what is wrong with them, and what is wrong with the whole."""

    values: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    request_id: str | None = None
    secrets: tuple[str, ...] = ()

    @property
    def is_valid(self) -> bool:
        return not self.errors and not self.problem

    @classmethod
    def submitted(
        cls, form: MultiDict[str, str], *, lists: tuple[str, ...] = (), secrets: tuple[str, ...] = ()
    ) -> Form:
        """`lists` are fields with several values; `secrets` are read but never shown again."""
        values: dict[str, Any] = {name: value.strip() for name, value in form.items() if name != "csrf_token"}
        values.update({name: [value for value in form.getlist(name) if value] for name in lists})
        return cls(values, secrets=secrets)

    def text(self, name: str) -> str | None:
        return str(self.values.get(name) or "").strip() or None

    def required(self, name: str, sentence: str) -> str:
        text = self.text(name)
        if text is None:
            self.errors[name] = sentence
        return text or ""

    def amount(self, name: str) -> Decimal | None:
        """USD, zero or more; None when the field is empty."""
        text = self.text(name)
        if text is None:
            return None
        try:
            amount = Decimal(text.replace(",", "").removeprefix("$"))
        except InvalidOperation:
            amount = Decimal(-1)
        if not amount.is_finite() or amount < 0:
            self.errors[name] = "Enter an amount in USD, for example 25 or 12.50."
            return None
        return amount

    def whole(self, name: str) -> int | None:
        text = (self.text(name) or "").replace(",", "")
        if not text:
            return None
        number = whole_number(text, most=2**63 - 1)
        if number is None:
            self.errors[name] = "Enter a whole number, or leave it empty for no limit."
        return number

    def refused(self, error: WorkerRefused) -> None:
        """The worker's own message, at the field that it names when the form has it, else above the form."""
        for name, message in error.fields.items():
            if name in self.values:
                self.errors[name] = message
        if not self.errors:
            self.problem = f"{error.worker.name} answered {error.status}: {error.message}"
        self.request_id = error.request_id

    def forget_secrets(self) -> None:
        for name in self.secrets:
            self.values.pop(name, None)


def jsonable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Decimals as JSON numbers. The contract has no decimal type, and a budget fits a double."""
    return {name: float(value) if isinstance(value, Decimal) else value for name, value in fields.items()}
