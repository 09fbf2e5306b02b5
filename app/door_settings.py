"""Settings of the way in: which door answers the hottest routes. Part of `Settings`."""

from __future__ import annotations

from dataclasses import dataclass

from .setting_fields import boolean, setting


@dataclass(frozen=True, kw_only=True)
class DoorSettings:
    answers_calls_directly: bool = setting(
        "Answer chat, text and embedding calls around the web framework, for a fraction of the CPU time. Same answers.",
        boolean,
        True,
        env="QUARTERDECK_DIRECT_CALLS",
    )
