"""Choices of a chunk as OpenAI would write them, whoever the provider is.

Clients of the OpenAI SDK put a stream together by the numbers of its choices and calls, and take `finish_reason` for
the end as soon as it is no null. Bytes are looked for before anything is parsed: a chunk without a flaw costs a scan.
A name of JSON is never found inside a text, where its quotes are escaped.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ..json_fields import as_mapping

_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

_REASON = re.compile(rb'"finish_reason"\s*:\s*"')
_EMPTY_REASON = re.compile(rb'"finish_reason"\s*:\s*""')
_FIRST_INDEX = (b'"index":0', b'"index": 0')


class ChoiceRepair:
    """`indexes`: of the choices that have begun; `stopped`: of those that said why they ended."""

    __slots__ = ("_calls", "_is_renumbering", "indexes", "stopped")

    def __init__(self) -> None:
        self.indexes: set[int] = set()
        self.stopped: set[int] = set()
        # Of each choice the calls of tools that have begun: the number that came, the id, and the number that is sent.
        self._calls: dict[int, list[tuple[int | None, str, int]]] = {}
        self._is_renumbering = False

    @property
    def has_called(self) -> bool:
        return bool(self._calls)

    def is_ordinary(self, raw: bytes) -> bool:
        """Whether a chunk goes on with the first choice, and there is nothing to put right: almost all of them."""
        return (
            (b'"finish_reason":null' in raw or b'"finish_reason": null' in raw)
            and b'"tool_calls"' not in raw
            and b'"reasoning"' not in raw
            and (_FIRST_INDEX[0] in raw or _FIRST_INDEX[1] in raw)
            and 0 in self.indexes
        )

    def note(self, raw: bytes) -> None:
        """Remember what has begun and ended."""
        if _FIRST_INDEX[0] in raw or _FIRST_INDEX[1] in raw:
            self.indexes.add(0)
            if _REASON.search(raw) is None:
                return
        for choice in _choices(_any(raw)):
            index = _number_of(choice) or 0
            self.indexes.add(index)
            if choice.get("finish_reason"):
                self.stopped.add(index)

    def repaired(self, raw: bytes) -> bytes:
        """The same choices without empty reasons, with numbers on calls of tools, and with thoughts by both names."""
        if b'""' in raw and _EMPTY_REASON.search(raw) is not None:
            raw = _EMPTY_REASON.sub(b'"finish_reason":null', raw)
        has_calls = b'"tool_calls"' in raw and self._may_lack_numbers(raw)
        has_thoughts = b'"reasoning"' in raw and b'"reasoning_content"' not in raw
        if not has_calls and not has_thoughts:
            return raw
        choices = _any(raw)
        is_changed = False
        for choice in _choices(choices):
            delta = as_mapping(choice.get("delta"))
            if has_thoughts and isinstance(delta.get("reasoning"), str):
                delta["reasoning_content"] = delta["reasoning"]
                is_changed = True
            calls = delta.get("tool_calls")
            for call in calls if has_calls and isinstance(calls, list) else ():
                if isinstance(call, dict):
                    is_changed |= self._numbered(call, self._calls.setdefault(_number_of(choice) or 0, []))
        return _encode(choices) if is_changed else raw

    def says_nothing_new(self, raw: bytes) -> bool:
        """Whether choices only repeat that they have ended, as beside the usage of some providers."""
        return bool(self.stopped) and all(
            _number_of(choice) in self.stopped
            and not choice.get("text")
            and not choice.get("finish_reason")
            and not any(as_mapping(choice.get("delta")).values())
            for choice in _choices(_any(raw))
        )

    def _may_lack_numbers(self, raw: bytes) -> bool:
        """Calls that begin are looked at, and those that have fewer numbers than there are calls and a choice."""
        calls = max(raw.count(b'"arguments"'), 1)
        return self._is_renumbering or b'"name"' in raw or raw.count(b'"index"') <= calls

    def _numbered(self, call: dict[str, Any], begun: list[tuple[int | None, str, int]]) -> bool:
        """Give one piece of a call its number; whether that is another than it came with.

        Some providers number no calls, some all alike: another id is another call.
        """
        came, id = _number_of(call), call.get("id") or ""
        has_name = bool(as_mapping(call.get("function")).get("name"))
        same = [known for known in begun if (known[1] == id if id else came in (None, known[0]))]
        if not same and id and not has_name:
            same = [known for known in begun if came in (None, known[0])]
        if same and (id or came is not None or not has_name):
            number = same[-1][2]
        else:
            taken = {known[2] for known in begun}
            number = came if came is not None and came not in taken else len(begun)
            begun.append((came, id, number))
        if number == came:
            return False
        self._is_renumbering = True
        call["index"] = number
        return True


def _choices(value: Any) -> list[dict[str, Any]]:
    return [choice for choice in value if isinstance(choice, dict)] if isinstance(value, list) else []


def _number_of(piece: dict[str, Any]) -> int | None:
    index = piece.get("index")
    return index if type(index) is int else None
