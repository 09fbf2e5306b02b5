"""How one setting is declared: what it means, how text becomes a value, and where the text comes from.

Parsers raise ValueError with the end of a sentence that begins with the value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any


class _Empty(Mapping[str, Any]):
    """A mapping of nothing that may stand as the default of a field: those must be hashable."""

    def __getitem__(self, name: str) -> Any:
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "{}"


EMPTY: Mapping[str, Any] = _Empty()

_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off", ""}


def text(value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise ValueError("is not text")
    return str(value)


def trimmed(value: Any) -> str:
    """Text that was copied, or read from a file, often has white space around it, which no header can carry."""
    return text(value).strip()


def boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError("is not a yes or no; write true or false")
    return word in _TRUE


def whole(value: Any) -> int:
    try:
        number = int(str(value))
    except ValueError:
        raise ValueError("is not a whole number") from None
    if number < 0 or isinstance(value, bool):
        raise ValueError("must be zero or more")
    return number


def client_error(value: Any) -> int:
    number = whole(value)
    if not 400 <= number <= 499:
        raise ValueError("is no status of a refusal; use 400 to 499")
    return number


def processes(value: Any) -> int:
    number = whole(value)
    if not 1 <= number <= 256:
        raise ValueError("is no number of processes; use 1 to 256")
    return number


def port(value: Any) -> int:
    number = whole(value)
    if not 1 <= number <= 65535:
        raise ValueError("is not a port; use 1 to 65535")
    return number


def positive(value: Any) -> float:
    try:
        number = float(str(value))
    except ValueError:
        raise ValueError("is not a number") from None
    if not 0 < number < float("inf"):
        raise ValueError("must be more than zero")
    return number


def setting(
    doc: str,
    parse: Callable[[Any], Any],
    default: Any = None,
    *,
    env: str | None = None,
    yaml: str | None = None,
    also: str | None = None,
    is_secret: bool = False,
    runtime: bool = False,
    operator_only: bool = False,
    to_json: Callable[[Any], Any] | None = None,
) -> Any:
    """Declare one setting: what it means, how text becomes a value, and where the text comes from.

    `also`: another place in the file, read when `yaml` is not there. `to_json`: the value as JSON, for objects.
    `runtime`: it is read anew on every use, so a value that the API stores takes effect while an instance runs; others
    wait for the next start. `operator_only`: never read from the database. That is what an instance needs before it
    can read its database, and who may enter it at all: whoever may change settings over the API must not be able to
    become the operator, nor to lock the operator out. Raises ValueError for both at once.
    """
    if runtime and operator_only:
        raise ValueError("a setting of the operator is read once, at the start")
    places = {"env": env, "yaml": yaml, "also": also}
    effect = {"runtime": runtime, "operator_only": operator_only}
    metadata = {"doc": doc, "parse": parse, **places, **effect, "is_secret": is_secret, "to_json": to_json}
    return field(default=default, metadata=metadata, repr=not is_secret)


def mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError("is not a mapping; write `name: value` lines below it")
    return MappingProxyType(dict(value))
