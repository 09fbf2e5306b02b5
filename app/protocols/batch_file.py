"""Input files of batches: one call a line (JSONL). Which models they name, and the same file with other names. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
from msgspec import Raw

from ..errors import InvalidRequest
from .json_fields import BROKEN_JSON, RawFields, read_fields

_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode

_MAX_MODELS = 5


def models_of_batch(file: bytes) -> tuple[str, ...]:
    """The models that the lines name, in their order. Raises InvalidRequest (400) that names the line."""
    found: dict[str, None] = {}
    for number, _, body in _calls(file):
        found[_model(number, body)] = None
        if len(found) > _MAX_MODELS:
            raise InvalidRequest(f"The file names more than {_MAX_MODELS} models.", param="file")
    if not found:
        raise InvalidRequest("The file has no calls: it needs one JSON object a line.", param="file")
    return tuple(found)


def renamed_batch(file: bytes, names: Mapping[str, str]) -> bytes:
    """The file with each line's model under its provider's name; everything else stays as it is."""
    lines: list[bytes] = []
    for number, line, body in _calls(file):
        model = Raw(_encode(names[_model(number, body)]))
        lines.append(_encode({**line, "body": {**body, "model": model}}))
    return b"\n".join([*lines, b""])


def _calls(file: bytes) -> Iterator[tuple[int, RawFields, RawFields]]:
    for number, text in enumerate(file.split(b"\n"), start=1):
        if not text.strip():
            continue
        try:
            line = read_fields(text)
            yield number, line, read_fields(line["body"])
        except (*BROKEN_JSON, KeyError):
            raise InvalidRequest(
                f"Line {number} of the file is no call: a JSON object with `custom_id`, `method`, `url` and `body`.",
                param="file",
            ) from None


def _model(number: int, body: RawFields) -> str:
    try:
        model = _text(body["model"])
    except (*BROKEN_JSON, KeyError):
        model = ""
    if not model:
        raise InvalidRequest(f"Line {number} of the file names no model in its body.", param="file")
    return model
