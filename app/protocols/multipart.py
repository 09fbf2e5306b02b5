"""Forms with files (multipart/form-data): split into parts, and put together again. Pure; no file is ever decoded."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from werkzeug.http import parse_options_header

from ..errors import InvalidRequest

# More than any of the dialect's operations takes: sixteen pictures, some words, and what lists are spelled as.
_MAX_PARTS = 200
_MAX_HEAD = 16 * 1024
_LINE_END = re.compile(rb"[ \t]{0,100}\r\n")
# Browsers write a name with these characters so; a name must not end its header.
# A backslash is one of them to some readers and none to others.
_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A", "\\": "%5C"})
_NAMES = re.compile(r";\s*name\*?\s*=", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """One part. `filename` None: a field, whose value is text. `content_type` as the client wrote it."""

    name: str
    value: bytes
    filename: str | None = None
    content_type: str | None = None

    @property
    def base_name(self) -> str:
        """The field's name without what clients append for lists and objects: `image[]`, `metadata[a]`."""
        return self.name.partition("[")[0]

    @property
    def text(self) -> str:
        return self.value.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Form:
    """The parts of a form, in their order."""

    parts: tuple[Part, ...]

    def text(self, name: str) -> str | None:
        """The first field of this name that is no file and not empty."""
        return next(
            (part.text for part in self.parts if part.name == name and part.filename is None and part.value), None
        )

    def texts(self, name: str) -> list[str]:
        """The values of a list: `name` or `name[]`, any number of times."""
        return [part.text for part in self.parts if part.base_name == name and part.filename is None]

    def files(self, *names: str) -> list[Part]:
        return [part for part in self.parts if part.filename is not None and (not names or part.base_name in names)]

    def has(self, name: str) -> bool:
        """Whether there is a part of this name with something in it."""
        return any(part.base_name == name and part.value for part in self.parts)

    def without(self, names: Iterable[str]) -> Form:
        left_out = frozenset(names)
        return Form(tuple(part for part in self.parts if part.base_name not in left_out))

    def with_text(self, name: str, value: str) -> Form:
        """The form with one field set, in place of whatever had its name."""
        return Form((Part(name, value.encode()), *self.without((name,)).parts))

    def encoded(self, boundary: str) -> bytes:
        """The body; its content type is `form_type(boundary)`."""
        pieces: list[bytes] = []
        for part in self.parts:
            pieces += (f"--{boundary}\r\n".encode(), _head(part), part.value, b"\r\n")
        return b"".join([*pieces, f"--{boundary}--\r\n".encode()])


def form_type(boundary: str) -> str:
    return f"multipart/form-data; boundary={boundary}"


def new_boundary() -> str:
    return f"quarterdeck-{secrets.token_hex(16)}"


def parse_form(body: bytes, content_type: str) -> Form:
    """The parts of a body. Raises InvalidRequest (400) for one that is no form."""
    kind, options = parse_options_header(content_type)
    boundary = options.get("boundary", "")
    if kind != "multipart/form-data" or not boundary:
        raise InvalidRequest(
            "The body must be multipart/form-data with a boundary, as SDKs send files.", param="request_body"
        )
    try:
        parts = tuple(islice(_parts(body, boundary.encode("latin-1", "replace")), _MAX_PARTS + 1))
    except ValueError:
        raise InvalidRequest(
            "Invalid form payload: the body is not well-formed multipart/form-data.", param="request_body"
        ) from None
    if len(parts) > _MAX_PARTS:
        raise InvalidRequest(f"The form has more than {_MAX_PARTS} parts.", param="request_body")
    return Form(parts)


def _parts(body: bytes, boundary: bytes) -> Iterator[Part]:
    """Looks for borders only, so that a large file costs one search and one copy. ValueError for what breaks off."""
    line = b"--" + boundary
    border = b"\r\n" + line
    end = len(line) if body.startswith(line) else body.index(border) + len(border)
    while not body.startswith(b"--", end):
        start = _LINE_END.match(body, end)
        if start is None:
            raise ValueError("a border is followed by other text")
        blank = body.index(b"\r\n\r\n", start.end() - 2)
        next_border = _next_border(body, border, blank + 2)
        yield _part(body[start.end() : blank], body[blank + 4 : next_border])
        end = next_border + len(border)


def _next_border(body: bytes, border: bytes, position: int) -> int:
    """Where the next border is: text that only begins like one is a part of the file."""
    while True:
        position = body.index(border, position)
        after = position + len(border)
        if body.startswith(b"--", after) or _LINE_END.match(body, after) is not None:
            return position
        position = after


def _part(head: bytes, value: bytes) -> Part:
    """Raises ValueError for a head without a name, and for one with two: readers do not agree on which counts."""
    if len(head) > _MAX_HEAD:
        raise ValueError("the head of a part is too long")
    headers: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, text = line.partition(":")
        name = name.strip().lower()
        if name in headers:
            raise ValueError("a part says something twice")
        headers[name] = text.strip()
    if len(_NAMES.findall(headers.get("content-disposition", ""))) > 1:
        raise ValueError("a part has two names")
    kind, options = parse_options_header(headers.get("content-disposition", ""))
    if kind != "form-data" or not options.get("name"):
        raise ValueError("a part has no name")
    return Part(options["name"], value, options.get("filename"), headers.get("content-type"))


def _head(part: Part) -> bytes:
    line = f'Content-Disposition: form-data; name="{part.name.translate(_ESCAPES)}"'
    if part.filename is not None:
        line += f'; filename="{part.filename.translate(_ESCAPES)}"'
    if part.content_type and part.content_type.isascii() and part.content_type.isprintable():
        line += f"\r\nContent-Type: {part.content_type}"
    elif part.filename is not None:
        line += "\r\nContent-Type: application/octet-stream"
    return f"{line}\r\n\r\n".encode()
