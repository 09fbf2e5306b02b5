"""The catalog: the deployments of each model name, from the configuration file and the database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import structlog

from ..models import Credential, StoredDeployment
from ..security.credentials import decrypt, encrypt
from ..settings import Settings
from ..settings.config_file import SettingsError
from ..storage.database import Database
from .deployment import Deployment, build_deployment, named_credential
from .skipped import SkippedDeployment
from .wildcards import WildcardGroups

__all__ = ["Deployment", "DeploymentCatalog", "SkippedDeployment", "build_deployment"]

log = structlog.get_logger(__name__)

Credentials = Mapping[str, Mapping[str, Any]]
# Columns of a stored row that are shown in `model_info`, so that a client can send the version back.
_ROW_COLUMNS = ("created_at", "created_by", "updated_at", "updated_by", "version")


class DeploymentCatalog:
    """Every deployment of this instance, by model name. Read on each call, rebuilt when one is added or removed."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._salt_key = settings.salt_key
        self._environment = settings.environment
        self._database = database
        self.configured_credentials = _configured_credentials(settings)
        self._credentials: Credentials = self.configured_credentials
        # Credentials of the file that miss a value, with what they miss.
        self._credential_problems = {
            row["credential_name"]: row["problem"] for row in settings.credential_list if "problem" in row
        }
        # Entries of the file that refer to no credential and so never change, by position.
        self._unchanging: dict[int, Deployment] = {}
        self._skipped: list[SkippedDeployment] = []
        self._reported: frozenset[SkippedDeployment] = frozenset()
        self._configured = tuple(self._configured_deployments(self._skipped, is_start=True))
        self._stored: tuple[Deployment, ...] = ()
        # An older read of the database must not replace a newer one.
        self._reload_lock = asyncio.Lock()
        self._by_name: dict[str, tuple[Deployment, ...]] = {}
        self._by_team: dict[tuple[str, str], tuple[Deployment, ...]] = {}
        self._by_id: dict[str, Deployment] = {}
        self._wildcards = WildcardGroups(())
        self._aliases = settings.model_group_alias
        self._index()

    def reconfigure(self, settings: Settings) -> None:
        """Take settings that changed while running."""
        self._aliases = settings.model_group_alias

    # ---- reading ---------------------------------------------------------------------------------------------------

    def all(self) -> list[Deployment]:
        """Every deployment, blocked ones and those of teams included."""
        return [*self._configured, *self._stored]

    def skipped(self) -> list[SkippedDeployment]:
        """What cannot be served, with the reason: entries of the file, then stored rows."""
        return list(self._skipped)

    def by_id(self, id: str) -> Deployment | None:
        return self._by_id.get(id)

    def names(self, team_id: str | None = None) -> list[str]:
        """Model names that are visible to a caller of this team, in the order in which they were configured."""
        shared = [name for name, members in self._by_name.items() if any(not member.is_blocked for member in members)]
        aliases = [(alias, group) for alias, (group, is_hidden) in self._aliases.items() if not is_hidden]
        shared += [alias for alias, group in aliases if self.deployments_of(group, team_id)]
        if team_id is None:
            return shared
        own = [member.public_name for member in self.all() if member.team_id == team_id and not member.is_blocked]
        return list(dict.fromkeys([*shared, *own]))

    def known_models_of(self, name: str) -> list[str]:
        """The models that a wildcard name is known to stand for; none for a name without a wildcard."""
        return self._wildcards.known_models(name)

    def deployments_of(self, model: str, team_id: str | None = None) -> tuple[Deployment, ...]:
        """The deployments that may serve a model name, or one deployment id: those that are not blocked.

        A team's own deployments serve that team only, and for it they replace the shared ones of that name.
        """
        members = self._find(model, team_id)
        if not any(member.is_blocked for member in members):
            return members
        return tuple(member for member in members if not member.is_blocked)

    def group_of(self, model: str, team_id: str | None = None) -> str:
        """The model group of a name: that of an alias, unless a group has that name itself."""
        alias = self._aliases.get(model)
        return model if alias is None or self._group(model, team_id) else alias[0]

    def grants_of(self, model: str, team_id: str | None = None) -> tuple[str, frozenset[str]]:
        """What grants access to a name: its model group, or one of the further names that are returned with it.

        Those are the group's access groups and, for an alias, the alias itself.
        """
        group = self.group_of(model, team_id)
        grants = self.access_groups_of(group, team_id)
        return group, grants if group == model else grants | {model}

    def _group(self, model: str, team_id: str | None) -> tuple[Deployment, ...]:
        of_team = self._by_team.get((team_id, model)) if team_id is not None else None
        return of_team or self._by_name.get(model, ())

    def _find(self, model: str, team_id: str | None) -> tuple[Deployment, ...]:
        members = self._group(model, team_id)
        if members:
            return members
        deployment = self._by_id.get(model)
        # What is not for this caller does not exist: its id must not take a wildcard's model away from others.
        if deployment is not None and deployment.team_id in (None, team_id):
            return () if deployment.provider.is_pass_through_only else (deployment,)
        return self._wildcards.matching(model)

    def belongs_to_team(self, model: str, team_id: str | None) -> bool:
        """Whether a name stands for deployments of this team, which need no further grant."""
        return team_id is not None and (team_id, model) in self._by_team

    def access_groups_of(self, model: str, team_id: str | None = None) -> frozenset[str]:
        """The access groups (`model_info.access_groups`) that contain a model."""
        return frozenset(group for member in self._find(model, team_id) for group in member.access_groups)

    def access_groups(self) -> dict[str, list[Deployment]]:
        """Access group -> its deployments."""
        groups: dict[str, list[Deployment]] = {}
        for deployment in self.all():
            for group in deployment.access_groups:
                groups.setdefault(group, []).append(deployment)
        return groups

    def params_of(self, deployment: Deployment) -> Mapping[str, Any]:
        """A deployment's parameters with the values of the shared credential that they name: secrets in plain text."""
        name = deployment.credential_name
        given = {key: value for key, value in deployment.params.items() if value not in (None, "")}
        return {**self._credentials.get(name or "", {}), **given}

    # ---- writing ---------------------------------------------------------------------------------------------------

    def check(self, model_name: str, params: Mapping[str, Any], info: Mapping[str, Any]) -> Deployment:
        """Build a deployment without storing it. Raises ValueError with what is wrong and what to write instead."""
        return self._built(model_name, params, info, is_stored=True)

    def _built(
        self,
        model_name: str,
        params: Mapping[str, Any],
        info: Mapping[str, Any] | None,
        *,
        is_stored: bool = False,
        is_blocked: bool = False,
        is_team_made: bool = False,
    ) -> Deployment:
        """The same with a credential of the file that misses a value refused by name."""
        name = named_credential(params)
        if name in self._credential_problems:
            problem = self._credential_problems[name]
            raise ValueError(f"litellm_params.litellm_credential_name: {name!r} is incomplete: {problem}")
        return build_deployment(
            model_name,
            params,
            info,
            self._environment,
            credentials=self._credentials,
            is_stored=is_stored,
            is_blocked=is_blocked,
            is_team_made=is_team_made,
        )

    def encrypt(self, values: Mapping[str, Any]) -> str:
        """Ciphertext of parameters or of a credential's values, as it is stored."""
        return encrypt(json.dumps(dict(values)), self._salt_key)

    def decrypt(self, ciphertext: str) -> dict[str, Any]:
        """Raises ValueError when the salt key has changed, or when the plain text is no JSON object."""
        values = json.loads(decrypt(ciphertext, self._salt_key))
        if not isinstance(values, dict):
            raise ValueError("is not a JSON object")
        return values

    async def add(
        self,
        model_name: str,
        params: Mapping[str, Any],
        info: Mapping[str, Any],
        created_by: str,
        *,
        is_team_made: bool = False,
    ) -> StoredDeployment:
        """Check, encrypt and store a deployment; it serves after the next `reload`. Raises ValueError when wrong."""
        deployment = self.check(model_name, params, info)
        return await StoredDeployment.create(
            model_id=deployment.id,
            model_name=model_name,
            litellm_params=self.encrypt(params),
            model_info={**info, "id": deployment.id},
            is_team_made=is_team_made,
            created_by=created_by,
            updated_by=created_by,
        )

    async def reload(self) -> None:
        """Read stored deployments and credentials again. Rows that are invalid are logged and skipped."""
        async with self._reload_lock:
            self._report()
            with self._database.active():
                credentials = await Credential.all()
                rows = await StoredDeployment.all().order_by("created_at", "model_id")
            stored = dict(self._decrypted_credentials(credentials))
            self._credentials = MappingProxyType({**stored, **self.configured_credentials})
            skipped: list[SkippedDeployment] = []
            self._configured = tuple(self._configured_deployments(skipped))
            self._stored = tuple(self._stored_deployments(rows, skipped))
            self._skipped = skipped
            self._index()
            self._report()

    def _report(self) -> None:
        """Log what is skipped, once for each reason: the reload of every few seconds would fill a log."""
        for deployment in self._skipped:
            if deployment not in self._reported:
                log.error(
                    "deployment skipped",
                    model_name=deployment.model_name,
                    model_id=deployment.id,
                    entry=deployment.place,
                    reason=deployment.reason,
                )
        self._reported = frozenset(self._skipped)

    def _decrypted_credentials(self, rows: Iterable[Credential]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for row in rows:
            try:
                yield row.credential_name, self.decrypt(row.credential_values)
            except ValueError as problem:
                log.error("stored credential skipped", credential_name=row.credential_name, reason=str(problem))

    def _stored_deployments(
        self, rows: Iterable[StoredDeployment], skipped: list[SkippedDeployment]
    ) -> Iterator[Deployment]:
        for row in rows:
            params: dict[str, Any] = {}
            try:
                params = self.decrypt(row.litellm_params)
                columns = {name: getattr(row, name) for name in _ROW_COLUMNS}
                info = {**row.model_info, **columns, "id": row.model_id}
                yield self._built(
                    row.model_name,
                    params,
                    info,
                    is_stored=True,
                    is_blocked=row.blocked,
                    is_team_made=row.is_team_made,
                )
            except (ValueError, TypeError, AttributeError) as problem:  # another version may have stored another shape
                skipped.append(SkippedDeployment.of_row(row, params, str(problem)))

    def _configured_deployments(
        self, skipped: list[SkippedDeployment], *, is_start: bool = False
    ) -> Iterator[Deployment]:
        """The deployments of the file. At the start those with a stored credential are left to the first reload.

        What cannot be served is added to `skipped`; in strict settings it raises SettingsError at the start.
        """
        for index, row in enumerate(self._settings.model_list):
            place = f"{self._settings.config_path}: model_list[{index}]"
            try:
                if "problem" in row:
                    raise ValueError(row["problem"])
                name = named_credential(row["litellm_params"])
                if is_start and name is not None and name not in self._credentials:
                    continue
                deployment = self._unchanging.get(index) or self._configured_deployment(row)
            except ValueError as problem:
                reason = self._settings.without_secrets(str(problem))
                if is_start and self._is_strict:
                    raise SettingsError(f"{place} ({row['model_name']}): {reason}") from None
                skipped.append(SkippedDeployment.of_entry(place, row, reason))
                continue
            if name is None:
                self._unchanging[index] = deployment
            yield deployment

    @property
    def _is_strict(self) -> bool:
        return self._settings.is_strict or not self._settings.ignores_invalid_deployments

    def _configured_deployment(self, row: Mapping[str, Any]) -> Deployment:
        params = {**{key: row[key] for key in ("rpm", "tpm", "weight") if key in row}, **row["litellm_params"]}
        return self._built(row["model_name"], params, row.get("model_info"))

    def _index(self) -> None:
        by_name: dict[str, list[Deployment]] = {}
        by_team: dict[tuple[str, str], list[Deployment]] = {}
        for deployment in self.all():
            if deployment.provider.is_pass_through_only:
                continue  # lends its credential to pass-through; it is no model of its own
            if deployment.team_id is None:
                by_name.setdefault(deployment.model_name, []).append(deployment)
                continue
            for name in {deployment.public_name, deployment.model_name}:
                by_team.setdefault((deployment.team_id, name), []).append(deployment)
        self._by_name = {name: tuple(members) for name, members in by_name.items()}
        self._wildcards = WildcardGroups(self._by_name.items())
        self._by_team = {name: tuple(members) for name, members in by_team.items()}
        # Of two with one id the configuration's counts, and of stored ones the older.
        self._by_id = {deployment.id: deployment for deployment in reversed(self.all())}


def _configured_credentials(settings: Settings) -> Credentials:
    """`credential_list` of the file: name -> values."""
    return MappingProxyType({row["credential_name"]: row["credential_values"] for row in settings.credential_list})
