"""What the configuration says about teams: fields of new ones, and the teams that any user may join.

What was set by the API lies over the configuration file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...models import ConfigEntry
from ...services import services
from ...web.fields import read_fields
from ..settings.sections import read_section
from .fields import TEAM

_OF_TEAMS = "default_team_params"
_OF_USERS = "default_internal_user_params"
_OLD_SECTION = "default_team_settings"
_MAX_AVAILABLE = 1000
# What no two teams have in common.
_OWN = ("team_alias", "organization_id")


async def with_team_defaults(sent: Mapping[str, Any]) -> dict[str, Any]:
    """A new team's fields, those that were left out from `default_team_params`. Raises 422 and 400 for wrong ones."""
    defaults = await _configured(_OF_TEAMS)
    left_out = {
        # Requests are read without floats, so that money stays exact.
        name: str(value) if isinstance(value, float) else value
        for name, value in defaults.items()
        if name in TEAM and name not in (*sent, *_OWN) and value is not None
    }
    return {**read_fields(left_out, TEAM), **sent}


async def available_team_ids() -> list[str]:
    """`available_teams` of the settings for teams, else of those for users."""
    old = await ConfigEntry.get_or_none(param_name=_OLD_SECTION)
    places = [old.param_value if old is not None else {}, await _configured(_OF_TEAMS), await _configured(_OF_USERS)]
    for place in places:
        found = place.get("available_teams")
        if isinstance(found, list):
            return [team_id for team_id in found if isinstance(team_id, str)][:_MAX_AVAILABLE]
    return []


async def _configured(name: str) -> dict[str, Any]:
    stored = (await read_section("litellm_settings")).get(name)
    return {**(getattr(services().settings, name) or {}), **(stored if isinstance(stored, dict) else {})}
