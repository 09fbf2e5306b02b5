"""What Schemathesis must not take for wrong data: loaded by it, not by pytest (tests/test_schemathesis.py)."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def filter_query(context: schemathesis.HookContext, query: Any) -> bool:
    """False for a parameter that is empty: it means that nothing was sent, as forms send it (app/web/fields.py).

    Of a parameter that is sent several times, the first counts.
    """
    return not any(_is_empty(value) for value in (query or {}).values())


def _is_empty(value: Any) -> bool:
    if isinstance(value, list):
        return not value or _is_empty(value[0])
    if isinstance(value, dict):
        return True  # written as parameters of other names
    return value is None or value == ""
