"""Names and ids that stand in a path: anything that a client can write there."""

from __future__ import annotations

_LONGEST = 255


def may_exist(name: str) -> bool:
    """Whether a column of names could hold this one at all; the database would refuse even to look for another."""
    return 0 < len(name) <= _LONGEST and "\x00" not in name
