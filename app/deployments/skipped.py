"""A deployment that cannot be served: it is left out by name, and the others serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..models import StoredDeployment
from .deployment import identity_of
from .public_params import public_params

IN_DATABASE = "database"


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedDeployment:
    """`place`: its entry in the file, or `database`. `reason`: what is wrong and what to write instead; no secret.

    Equal by what was said of it, so that it is logged once.
    """

    id: str
    model_name: str
    place: str
    reason: str
    team_id: str | None = field(default=None, compare=False)
    params: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_stored(self) -> bool:
        return self.place == IN_DATABASE

    def public_params(self) -> dict[str, Any]:
        """Its parameters without anything that could hold a secret."""
        return public_params(self.params)

    @classmethod
    def of_entry(cls, place: str, row: Mapping[str, Any], reason: str) -> SkippedDeployment:
        """An entry of `model_list`."""
        name, params = row["model_name"], row["litellm_params"]
        info = row.get("model_info") or {}
        return cls(
            id=identity_of(name, params, info),
            model_name=name,
            place=place,
            reason=reason,
            team_id=str(info["team_id"]) if info.get("team_id") else None,
            params=params,
        )

    @classmethod
    def of_row(cls, row: StoredDeployment, params: Mapping[str, Any], reason: str) -> SkippedDeployment:
        """A row of the database; without parameters where they cannot be read."""
        info: Any = row.model_info  # another version may have stored another shape
        info = info if isinstance(info, Mapping) else {}
        return cls(
            id=row.model_id,
            model_name=str(info.get("team_public_model_name") or row.model_name),
            place=IN_DATABASE,
            reason=reason,
            team_id=str(info["team_id"]) if info.get("team_id") else None,
            params=params,
        )
