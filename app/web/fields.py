"""What a caller sent, read by a table of fields: clear refusals, exact money, and nothing dropped silently.

A table maps a name to a `Field`. Wrong types and missing fields answer 422, all at once (E3). Values that cannot be
meant, such as a negative budget, answer 400 (E1). Fields that a table does not know are accepted, as the contract
demands, and named in the response header `x-quarterdeck-unknown-fields`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar, cast

import msgspec
from quart import after_this_request, current_app, request
from quart.typing import ResponseTypes

from ..durations import next_reset
from ..errors import InvalidRequest, ValidationFailed

View = TypeVar("View", bound=Callable[..., Any])

UNKNOWN_FIELDS_HEADER = "x-quarterdeck-unknown-fields"

_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_POSITION = re.compile(r"\(byte (\d+)\)")
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}", re.ASCII)
_MAX_MONEY = Decimal(10) ** 15
_MAX_NESTING = 50
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


class WrongValue(ValueError):
    """A value of the wrong shape. `type` is the machine-readable word of the contract's 422."""

    def __init__(self, message: str, type: str = "value_error") -> None:
        super().__init__(message)
        self.type = type


@dataclass(frozen=True, slots=True)
class Field:
    """How one field is read. `read` gets everything but null; `empty` is what null means; `schema` is for OpenAPI."""

    read: Callable[[Any], Any]
    empty: Any = None
    is_required: bool = False
    is_nullable: bool = True
    schema: Mapping[str, Any] = field(default_factory=dict)

    @property
    def required(self) -> Field:
        return replace(self, is_required=True, is_nullable=False)


Table = Mapping[str, Field]


def bad_request(message: str, param: str | None = None) -> InvalidRequest:
    """400 in the management API's words."""
    return InvalidRequest(message, type="bad_request_error", param=param)


def takes(*, body: Table | None = None, query: Table | None = None, is_strict: bool = False) -> Callable[[View], View]:
    """Declare what a view reads, for `read_body()`, `read_query()` and /openapi.json: one table for all three.

    `is_strict`: a body with fields that the table does not know is 400 that names them.
    """

    def mark(view: View) -> View:
        view.body_table, view.query_table, view.is_strict = body, query, is_strict  # type: ignore[attr-defined]
        return view

    return mark


def _declared(kind: str) -> Table:
    """The table that the current view declared."""
    view = current_app.view_functions[request.endpoint or ""]
    return cast(Table, getattr(view, kind))


# ---- reading a request ---------------------------------------------------------------------------------------------


async def read_body(table: Table | None = None) -> dict[str, Any]:
    """The fields that were sent, checked; absent ones are absent. Raises 422 and 400."""
    table = table if table is not None else _declared("body_table")
    raw = await request.get_data(cache=False)
    if not raw.strip():
        raise ValidationFailed([("", "A JSON object is required as body", "missing")])
    try:
        body = _DECODER.decode(raw)
    except RecursionError:
        raise ValidationFailed([("", "The body is nested too deeply", "json_invalid")]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        found = _POSITION.search(str(error))
        raise ValidationFailed([(found[1] if found else "0", "JSON decode error", "json_invalid")]) from None
    if not isinstance(body, dict):
        raise ValidationFailed([("", "The body must be a JSON object", "model_attributes_type")])
    _name_unknown(sorted(set(body) - set(table)))
    return read_fields(body, table)


def read_query(table: Table | None = None, **defaults: Any) -> dict[str, Any]:
    """The query parameters of a table; those that are absent or empty have their default, else None."""
    table = table if table is not None else _declared("query_table")
    sent = {name: value for name, value in request.args.items() if value != ""}
    values = read_fields(sent, table, source="query")
    return {name: values.get(name, defaults.get(name)) for name in table}


def read_fields(sent: Mapping[str, Any], table: Table, *, source: str = "body") -> dict[str, Any]:
    """Check `sent` against a table. Raises ValidationFailed with every problem, or InvalidRequest for the first."""
    problems: list[tuple[str, str, str]] = []
    values: dict[str, Any] = {}
    for name, one in table.items():
        if name not in sent:
            if one.is_required:
                problems.append((name, "This field is required", "missing"))
            continue
        try:
            values[name] = _value(sent[name], one)
        except WrongValue as wrong:
            problems.append((name, str(wrong), wrong.type))
        except InvalidRequest as refusal:
            refusal.param = refusal.param or name
            raise
    if problems:
        raise ValidationFailed(problems, source=source)
    return values


def _value(raw: Any, field: Field) -> Any:
    if raw is not None:
        return field.read(raw)
    if not field.is_nullable:
        raise WrongValue("This field cannot be null", "null_not_allowed")
    return field.empty() if callable(field.empty) else field.empty


def _name_unknown(names: list[str]) -> None:
    if not names:
        return
    listed = ", ".join(name if _NAME.fullmatch(name) else "?" for name in names[:30])
    if getattr(current_app.view_functions[request.endpoint or ""], "is_strict", False):
        raise bad_request(f"Unknown fields: {listed}", names[0] if _NAME.fullmatch(names[0]) else None)

    @after_this_request
    async def name_them(response: ResponseTypes) -> ResponseTypes:
        response.headers[UNKNOWN_FIELDS_HEADER] = listed
        return response


# ---- kinds of fields -----------------------------------------------------------------------------------------------


def text(max_length: int = 255) -> Field:
    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise WrongValue("This must be text", "string_type")
        if len(value) > max_length:
            raise WrongValue(f"This must have at most {max_length} characters", "string_too_long")
        if "\x00" in value:
            raise WrongValue("This must not contain a NUL character")
        return value

    return Field(read, schema={"type": "string", "maxLength": max_length})


def identifier(max_length: int = 255) -> Field:
    """A name or id; the empty text means null, as forms send it."""
    read_text = text(max_length).read
    schema = {"type": "string", "maxLength": max_length}
    return Field(lambda value: read_text(value).strip() or None, schema=schema)


def email() -> Field:
    """An address in lower case, so that it can be compared plainly; "" is null."""
    read_text = text().read
    schema = {"type": "string", "maxLength": 255}
    return Field(lambda value: read_text(read_text(value).strip().lower()) or None, schema=schema)


def listed() -> Field:
    """Names or ids in one text, with commas between them."""
    read_text, read_all = text().read, text(20_000).read
    schema = {"type": "string", "maxLength": 255, "description": "Names or ids with commas between them"}
    return Field(
        lambda value: [read_text(item.strip()) for item in read_all(value).split(",") if item.strip()], schema=schema
    )


def one_of(*choices: str) -> Field:
    def read(value: Any) -> str:
        if value not in choices or not isinstance(value, str):
            raise WrongValue(f"This must be one of {', '.join(choices)}", "enum")
        return value

    return Field(read, schema={"type": "string", "enum": list(choices)})


def money() -> Field:
    """USD as an exact Decimal, "" is null. Raises 400 for a negative amount, 422 for what is no number."""

    def read(value: Any) -> Decimal | None:
        if isinstance(value, str) and not value.strip():
            return None
        amount = _decimal(value)
        if amount < 0:
            raise bad_request(f"This cannot be negative. Received: {amount}")
        if amount > _MAX_MONEY:
            raise bad_request(f"This is more than {_MAX_MONEY:f} USD")
        return amount

    return Field(read, schema={"type": "number", "minimum": 0, "maximum": 10**15, "description": "USD"})


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise WrongValue("This must be a number", "float_type")
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise WrongValue("This must be a number", "float_parsing") from None
    if not amount.is_finite() or amount.adjusted() > 40:
        raise WrongValue("This must be a finite number", "finite_number")
    return amount


def whole(lowest: int = 0, highest: int = 2**63 - 1) -> Field:
    """A whole number, "" is null. Raises 422 outside of its bounds."""

    def read(value: Any) -> int | None:
        if isinstance(value, str) and not value.strip():
            return None
        number = _decimal(value)
        if number != number.to_integral_value():
            raise WrongValue("This must be a whole number", "int_from_float")
        if number < lowest:
            raise WrongValue(f"This must be {lowest} or more", "greater_than_equal")
        if number > highest:
            raise WrongValue(f"This must be {highest} or less", "less_than_equal")
        return int(number)

    return Field(read, schema={"type": "integer", "minimum": lowest, "maximum": highest})


def flag() -> Field:
    def read(value: Any) -> bool:
        if isinstance(value, bool):
            return value
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in _TRUE + _FALSE:
            raise WrongValue("This must be true or false", "bool_parsing")
        return word in _TRUE

    return Field(read, empty=False, schema={"type": "boolean"})


def json_object() -> Field:
    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise WrongValue("This must be a JSON object", "dict_type")
        plain: dict[str, Any] = _plain(value)
        return plain

    return Field(read, empty=dict, schema={"type": "object"})


def text_list() -> Field:
    read_text = text().read

    def read(value: Any) -> list[str]:
        if not isinstance(value, list):
            raise WrongValue("This must be a list of texts", "list_type")
        return [read_text(item) for item in value]

    items = {"type": "string", "maxLength": 255}
    return Field(read, empty=list, schema={"type": "array", "items": items})


def duration() -> Field:
    """The grammar of app/durations.py, kept as text; "" is null. Raises 400."""

    def read(value: Any) -> str | None:
        if not isinstance(value, str):
            raise WrongValue("This must be text such as 30d", "string_type")
        if not value.strip():
            return None
        try:
            next_reset(value, datetime.now(UTC))
        except ValueError as problem:
            raise bad_request(f"Invalid duration: {problem}") from None
        return value.strip().lower()

    return Field(read, schema={"type": "string", "examples": ["30d"]})


def moment() -> Field:
    """ISO 8601, as UTC; a time without a zone is UTC."""

    def read(value: Any) -> datetime | None:
        if not isinstance(value, str):
            raise WrongValue("This must be a time as 2026-11-21T20:18:00Z", "datetime_type")
        if not value.strip():
            return None
        try:
            found = datetime.fromisoformat(value)
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        except (ValueError, OverflowError):
            raise WrongValue("This must be a time as 2026-11-21T20:18:00Z", "datetime_parsing") from None

    return Field(read, schema={"type": "string", "format": "date-time"})


def range_edge(*, is_end: bool) -> Field:
    """One end of a range of times: ISO 8601 in UTC. A day alone is its first moment, or its last with `is_end`."""

    def read(value: Any) -> datetime:
        try:
            found = datetime.fromisoformat(str(value))
            if is_end and len(str(value)) <= 10:
                found += timedelta(days=1, microseconds=-1)
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        except (ValueError, OverflowError):
            raise WrongValue("This must be a day or a time as 2026-11-21 00:00:00", "datetime_parsing") from None

    return Field(read, schema={"type": "string", "examples": ["2026-11-21", "2026-11-21 00:00:00"]})


def records(table: Table) -> Field:
    """A list of objects, each read by a table of its own; one object counts as a list of one."""

    def read(value: Any) -> list[dict[str, Any]]:
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, dict) for item in items):
            raise WrongValue("This must be a list of JSON objects", "list_type")
        try:
            return [read_fields(item, table) for item in items]
        except ValidationFailed as problem:
            raise WrongValue(problem.message) from None

    return Field(read, empty=list, schema={"type": "array", "items": table_schema(table)})


def table_schema(table: Table) -> dict[str, Any]:
    """A table as JSON schema. Unknown fields are welcome, null is a value of most."""
    properties = {}
    for name, one in table.items():
        properties[name] = {"anyOf": [one.schema, {"type": "null"}]} if one.is_nullable else dict(one.schema)
    required = [name for name, one in table.items() if one.is_required]
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _plain(value: Any, depth: int = 0) -> Any:
    """JSON as the database can keep it: no NUL, no endless numbers, no endless nesting."""
    if depth > _MAX_NESTING:
        raise WrongValue(f"This is nested more than {_MAX_NESTING} deep")
    if isinstance(value, dict):
        return {_plain(name, depth + 1): _plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, str) and "\x00" in value:
        raise WrongValue("This must not contain a NUL character")
    if isinstance(value, Decimal):
        return float(_decimal(value))
    if isinstance(value, int) and abs(value) > 2**63:
        raise WrongValue("This contains a number that is too large")
    return value


_LONGEST = 255


def may_exist(name: str) -> bool:
    """Whether a column of names could hold this one at all; the database would refuse even to look for another."""
    return 0 < len(name) <= _LONGEST and "\x00" not in name
