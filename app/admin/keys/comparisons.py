"""When one value of a key's field is within another: tighter, or equal.

Each takes what the key says before and after by the names of its fields, since some limits consist of several, and the
name. What was stored may have any shape (metadata are free): a value of the wrong one is within nothing but "no limit".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from ...auth.model_access import EVERY_MODEL, NO_MODEL
from ...durations import parse_duration

Grant = Mapping[str, Any]

_AMOUNT = ("max_budget", "budget_limit")


def is_same(before: Grant, after: Grant, name: str) -> bool:
    """Equal in value and type: to a reader of limits, true is not 1."""
    return before[name] is after[name] or _text(before[name]) == _text(after[name])


def anything(before: Grant, after: Grant, name: str) -> bool:
    return True


def is_unset_or_same(before: Grant, after: Grant, name: str) -> bool:
    return not after[name] or is_same(before, after, name)


def is_set_once(before: Grant, after: Grant, name: str) -> bool:
    return before[name] is None or is_same(before, after, name)


def stays_on(before: Grant, after: Grant, name: str) -> bool:
    return not before[name] or after[name] is True


# ---- numbers ---------------------------------------------------------------------------------------------------------


def is_at_most(before: Grant, after: Grant, name: str) -> bool:
    return before[name] is None or _is_at_most(after[name], before[name])


def has_each_number(before: Grant, after: Grant, name: str) -> bool:
    """A number per name: each that is there stays, as high as it is or lower; others may come."""
    old, new = before[name], after[name]
    if not old:
        return True
    return isinstance(old, Mapping) and isinstance(new, Mapping) and all(_is_at_most(new.get(n), old[n]) for n in old)


def has_each_window(before: Grant, after: Grant, name: str) -> bool:
    """Budgets per period: each period stays, with as much or less; others may come."""
    old, new = before[name] or [], after[name] or []
    return all(
        any(
            window.get("budget_duration") == other.get("budget_duration")
            and (window.get("max_budget") is None or _is_at_most(other.get("max_budget"), window["max_budget"]))
            for other in new
        )
        for window in old
    )


def has_each_budget(before: Grant, after: Grant, name: str) -> bool:
    """Budgets per model: each stays, the same but for lower numbers; others may come."""
    old, new = before[name], after[name]
    if not old:
        return True
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return False
    return all(model in new and _is_lower_budget(old[model], new[model]) for model in old)


def _is_lower_budget(old: Any, new: Any) -> bool:
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return _text(old) == _text(new) or _is_at_most(new, old)
    if set(old) != set(new):
        return False
    numbers = (*_AMOUNT, "tpm_limit", "rpm_limit")
    return all(_text(old[n]) == _text(new[n]) or (n in numbers and _is_at_most(new[n], old[n])) for n in old)


def _is_at_most(value: Any, ceiling: Any) -> bool:
    if not _is_number(value) or not _is_number(ceiling):
        return False
    return Decimal(str(value)) <= Decimal(str(ceiling))


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    return is_number and Decimal(str(value)).is_finite()


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


# ---- lists -----------------------------------------------------------------------------------------------------------


def allows_no_more(before: Grant, after: Grant, name: str) -> bool:
    """A list of what is allowed, where an empty one allows everything."""
    old, new = _texts(before[name]), _texts(after[name])
    return not old or (bool(new) and new <= old)


def demands_no_less(before: Grant, after: Grant, name: str) -> bool:
    """A list of what is denied, or demanded."""
    return _texts(before[name]) <= _texts(after[name])


def routes_no_more(before: Grant, after: Grant, name: str) -> bool:
    """Paths, paths with `*`, and groups of routes; `key_type` is another way to write `allowed_routes`."""
    name = "allowed_routes" if name == "key_type" else name
    old, new = _texts(before[name]), _texts(after[name])
    return not old or (bool(new) and all(entry in old or _is_below(entry, old) for entry in new))


def _is_below(entry: str, patterns: Iterable[str]) -> bool:
    patterns = [pattern[:-1] for pattern in patterns if pattern.startswith("/") and pattern.endswith("*")]
    return any(entry.startswith(prefix) for prefix in patterns)


def models_no_more(before: Grant, after: Grant, name: str) -> bool:
    """`models` and the access groups grant together; both empty grant everything.

    A name is within a pattern only as itself: it may be the name of an access group, with other models in it.
    """
    old, old_groups = _texts(before["models"]), _texts(before["access_group_ids"])
    new, new_groups = _texts(after["models"]), _texts(after["access_group_ids"])
    if not (old or old_groups) or old & EVERY_MODEL:
        return True
    is_all_of_team = "all-team-models" in old and before["team_id"] is not None
    if is_all_of_team and before["team_id"] == after["team_id"]:
        return True
    return bool(new or new_groups) and new <= old | {NO_MODEL} and new_groups <= old_groups


def _texts(value: Any) -> set[str]:
    return set(map(str, value)) if isinstance(value, list | tuple) else set()


# ---- times -----------------------------------------------------------------------------------------------------------


def expires_no_later(before: Grant, after: Grant, name: str) -> bool:
    old, new = before[name], after[name]
    return old is None or (new is not None and new <= old)


def resets_no_sooner(before: Grant, after: Grant, name: str) -> bool:
    """Whether the spend of a budget goes back to zero as seldom as before, and next as late as before."""
    old, new = before[name], after[name]
    if before["max_budget"] is None or new is None:
        return True
    if old is None or _length(new, 28) < _length(old, 31):
        return False
    before_at, after_at = before["budget_reset_at"], after["budget_reset_at"]
    return before_at is None or (after_at is not None and after_at >= before_at)


def rotates_no_later(before: Grant, after: Grant, name: str) -> bool:
    old, new = before[name], after[name]
    if not before["auto_rotate"] or old is None:
        return True
    if new is None or _length(new, 31) > _length(old, 28):
        return False
    before_at, after_at = before["key_rotation_at"], after["key_rotation_at"]
    return before_at is None or (after_at is not None and after_at <= before_at)


def _length(text: str, days_of_month: int) -> timedelta:
    duration = parse_duration(text)
    try:
        if duration.seconds is None:
            return timedelta(days=days_of_month * duration.count)
        return timedelta(seconds=duration.seconds)
    except OverflowError:
        return timedelta.max
