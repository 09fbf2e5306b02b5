"""Forms: what comes in goes out, byte for byte, and nothing in a name can end its header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidRequest
from app.protocols.multipart import Form, Part, form_type, new_boundary, parse_form

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters='"\\%'), min_size=1, max_size=20)
PARTS = st.builds(
    Part,
    name=NAMES,
    value=st.binary(max_size=2000),
    filename=NAMES,
    content_type=st.sampled_from(["image/png", "text/plain; charset=utf-8", "application/octet-stream"]),
)


def round_trip(form: Form) -> Form:
    boundary = new_boundary()
    return parse_form(form.encoded(boundary), form_type(boundary))


@given(st.lists(PARTS, max_size=5).map(tuple))
def test_a_form_survives_the_way_through(parts: tuple[Part, ...]) -> None:
    assert round_trip(Form(parts)).parts == parts


@pytest.mark.parametrize("value", [b"", b"\r\n", b"--", b"\r\n--x--\r\n", bytes(range(256)) * 500, b"\r" * 70_000])
def test_bytes_are_never_touched(value: bytes) -> None:
    file = Part("file", value, "a.bin", "audio/wav")
    assert round_trip(Form((file,))).parts == (file,)


def test_text_that_only_begins_like_a_border_is_a_part_of_the_file() -> None:
    value = b"\r\n--b0x\r\n--b0-\r\n--b"
    assert parse_form(Form((Part("f", value, "a"),)).encoded("b0"), form_type("b0")).parts[0].value == value


def test_what_stands_before_and_after_a_form_is_nothing() -> None:
    body = b"before\r\n--b \t\r\ncontent-disposition: form-data; name=a\r\n\r\n1\r\n--b--\r\nafter"
    assert parse_form(body, form_type("b")).parts == (Part("a", b"1"),)


def test_a_name_cannot_end_its_header() -> None:
    form = Form((Part('a"; x="', b"1"), Part("b", b"2", 'f"\r\nX-Evil: 1\r\n\r\n', "text/plain\r\nX-Evil: 1")))
    sent = form.encoded("b0")
    assert b"\r\nX-Evil" not in sent
    assert [part.value for part in parse_form(sent, form_type("b0")).parts] == [b"1", b"2"]


def test_a_backslash_cannot_hide_the_end_of_a_name() -> None:
    sent = Form((Part("a\\", b"1", "; name=model; x="),)).encoded("b0")
    assert b"\\" not in sent
    assert b'name="a%5C"' in sent


@pytest.mark.parametrize(
    "head",
    [
        b'Content-Disposition: form-data; name="a"; name="model"',
        b"Content-Disposition: form-data; name=\"a\"; NAME*=utf-8''model",
        b'Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; name="model"',
    ],
)
def test_a_part_with_two_names_is_refused(head: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_form(b"--b\r\n" + head + b"\r\n\r\n1\r\n--b--\r\n", form_type("b"))


def test_fields_and_files_are_found_by_their_names() -> None:
    form = Form((Part("a", b""), Part("a", b"one"), Part("l[]", b"x"), Part("l[]", b"y"), Part("f", b"z", "z.txt")))
    assert (form.text("a"), form.text("f"), form.texts("l")) == ("one", None, ["x", "y"])
    assert [part.filename for part in form.files("f", "g")] == ["z.txt"]
    assert form.has("l") and form.has("f") and not form.has("b")
    assert form.without(["l"]).texts("l") == []
    assert form.with_text("a", "two").texts("a") == ["two"]


@pytest.mark.parametrize("content_type", ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=b"])
def test_what_is_no_form_by_its_type_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidRequest, match="must be multipart/form-data"):
        parse_form(b"--b--\r\n", content_type)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"--b\r\n",
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nvalue',
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nvalue\r\n--b',
        b"--b\r\nX: 1\r\n\r\nvalue\r\n--b--\r\n",
        b"--b\r\n\r\nvalue\r\n--b--\r\n",
        b"--bcd\r\n\r\nvalue\r\n--b--\r\n",
        b"--b\r\nX: " + b"1" * 20_000 + b"\r\n\r\nvalue\r\n--b--\r\n",
        b"\xff\xfe" * 100,
    ],
)
def test_a_form_that_breaks_off_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not well-formed"):
        parse_form(body, "multipart/form-data; boundary=b")


def test_parts_are_bounded() -> None:
    form = Form(tuple(Part(str(number), b"") for number in range(201)))
    with pytest.raises(InvalidRequest, match="more than 200 parts"):
        round_trip(form)
