"""The catalog: which deployments stand behind each model name, from the configuration file and the database."""

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
from .wildcards import Patterns

__all__ = ["Deployment", "DeploymentCatalog", "build_deployment"]

log = structlog.get_logger(__name__)

Credentials = Mapping[str, Mapping[str, Any]]
# How the columns of a stored row stand in `model_info`, so that whoever reads a model can send its version back.
_ROW_FACTS = ("created_at", "created_by", "updated_at", "updated_by", "version")


class DeploymentCatalog:
    """Every deployment of this instance, by model name. Read on each call, rebuilt when one is added or removed."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._salt_key = settings.salt_key
        self._environment = settings.environment
        self._database = database
        self.configured_credentials = _configured_credentials(settings)
        self._credentials: Credentials = self.configured_credentials
        # Entries of the file that nothing can change any more, by position.
        self._fixed: dict[int, Deployment] = {}
        self._configured = tuple(self._from_file(is_start=True))
        self._stored: tuple[Deployment, ...] = ()
        # An older read must not replace a newer one.
        self._reloading = asyncio.Lock()
        self._by_name: dict[str, tuple[Deployment, ...]] = {}
        self._by_team: dict[tuple[str, str], tuple[Deployment, ...]] = {}
        self._by_id: dict[str, Deployment] = {}
        self._patterns = Patterns(())
        self._aliases = settings.model_group_alias
        self._index()

    def reconfigure(self, settings: Settings) -> None:
        """Take settings that changed while running."""
        self._aliases = settings.model_group_alias

    # ---- asking ----------------------------------------------------------------------------------------------------

    def all(self) -> list[Deployment]:
        """Every deployment, the blocked ones and those of teams included."""
        return [*self._configured, *self._stored]

    def by_id(self, id: str) -> Deployment | None:
        return self._by_id.get(id)

    def names(self, team_id: str | None = None) -> list[str]:
        """Model names that a caller of this team may find, in the order in which they were configured."""
        shared = [name for name, members in self._by_name.items() if any(not one.is_blocked for one in members)]
        aliases = [(alias, group) for alias, (group, is_hidden) in self._aliases.items() if not is_hidden]
        shared += [alias for alias, group in aliases if self.behind(group, team_id)]
        if team_id is None:
            return shared
        own = [one.public_name for one in self.all() if one.team_id == team_id and not one.is_blocked]
        return list(dict.fromkeys([*shared, *own]))

    def behind(self, model: str, team_id: str | None = None) -> tuple[Deployment, ...]:
        """Whom a call may go to: the deployments of a model name, or of one deployment id, that are not blocked.

        A team's own deployments serve that team only, and for it they stand in place of the shared ones of that name.
        """
        found = self._found(model, team_id)
        return tuple(one for one in found if not one.is_blocked) if any(one.is_blocked for one in found) else found

    def group_behind(self, model: str, team_id: str | None = None) -> str:
        """The group that an alias stands for; a name that is a group's own is no alias."""
        alias = self._aliases.get(model)
        return model if alias is None or self._named(model, team_id) else alias[0]

    def grants_of(self, model: str, team_id: str | None = None) -> tuple[str, frozenset[str]]:
        """What a name's use is granted by: the group that it stands for, and the words that cover it besides that name.

        These are the group's access groups and, for an alias, the alias itself.
        """
        group = self.group_behind(model, team_id)
        words = self.groups_of(group, team_id)
        return group, words if group == model else words | {model}

    def _named(self, model: str, team_id: str | None) -> tuple[Deployment, ...]:
        found = self._by_team.get((team_id, model)) if team_id is not None else None
        return found or self._by_name.get(model, ())

    def _found(self, model: str, team_id: str | None) -> tuple[Deployment, ...]:
        found = self._named(model, team_id)
        if found:
            return found
        single = self._by_id.get(model)
        if single is not None:
            is_there = single.team_id in (None, team_id) and not single.provider.is_pass_through_only
            return (single,) if is_there else ()
        return self._patterns.behind(model)

    def belongs_to_team(self, model: str, team_id: str | None) -> bool:
        """Whether a name means deployments that were made for this team, which therefore need no further grant."""
        return team_id is not None and (team_id, model) in self._by_team

    def groups_of(self, model: str, team_id: str | None = None) -> frozenset[str]:
        """The access groups (`model_info.access_groups`) that contain a model."""
        return frozenset(group for one in self._found(model, team_id) for group in one.access_groups)

    def access_groups(self) -> dict[str, list[Deployment]]:
        """Access group -> its deployments."""
        groups: dict[str, list[Deployment]] = {}
        for deployment in self.all():
            for group in deployment.access_groups:
                groups.setdefault(group, []).append(deployment)
        return groups

    def params_of(self, deployment: Deployment) -> Mapping[str, Any]:
        """A deployment's parameters with the values of the shared credential that they name: secrets in the clear."""
        name = deployment.credential_name
        given = {key: value for key, value in deployment.params.items() if value not in (None, "")}
        return {**self._credentials.get(name or "", {}), **given}

    # ---- writing ---------------------------------------------------------------------------------------------------

    def check(self, model_name: str, params: Mapping[str, Any], info: Mapping[str, Any]) -> Deployment:
        """What a deployment would be. Raises ValueError with what is wrong and what to write instead."""
        return build_deployment(
            model_name, params, info, self._environment, credentials=self._credentials, is_stored=True
        )

    def encrypt(self, values: Mapping[str, Any]) -> str:
        """Ciphertext of parameters or of a credential's values, as their tables keep it."""
        return encrypt(json.dumps(dict(values)), self._salt_key)

    def decrypt(self, ciphertext: str) -> dict[str, Any]:
        """Raises ValueError when the salt key is another one by now, or when it is no JSON object."""
        values = json.loads(decrypt(ciphertext, self._salt_key))
        if not isinstance(values, dict):
            raise ValueError("is not a JSON object")
        return values

    async def add(
        self, model_name: str, params: Mapping[str, Any], info: Mapping[str, Any], created_by: str
    ) -> StoredDeployment:
        """Check, encrypt and store a deployment; it serves after the next `reload`. Raises ValueError when wrong."""
        deployment = self.check(model_name, params, info)
        return await StoredDeployment.create(
            model_id=deployment.id,
            model_name=model_name,
            litellm_params=self.encrypt(params),
            model_info={**info, "id": deployment.id},
            created_by=created_by,
            updated_by=created_by,
        )

    async def reload(self) -> None:
        """Read stored deployments and credentials again. What cannot be read or is wrong is logged and left out."""
        async with self._reloading:
            with self._database.active():
                credentials = await Credential.all()
                rows = await StoredDeployment.all().order_by("created_at", "model_id")
            stored = dict(self._readable_credentials(credentials))
            self._credentials = MappingProxyType({**stored, **self.configured_credentials})
            self._configured = tuple(self._from_file())
            self._stored = tuple(self._readable(rows))
            self._index()

    def _readable_credentials(self, rows: Iterable[Credential]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for row in rows:
            try:
                yield row.credential_name, self.decrypt(row.credential_values)
            except ValueError as problem:
                log.error("stored credential is left out", credential_name=row.credential_name, reason=str(problem))

    def _readable(self, rows: Iterable[StoredDeployment]) -> Iterator[Deployment]:
        for row in rows:
            try:
                params = self.decrypt(row.litellm_params)
                facts = {name: getattr(row, name) for name in _ROW_FACTS}
                info = {**row.model_info, **facts, "id": row.model_id}
                yield build_deployment(
                    row.model_name,
                    params,
                    info,
                    self._environment,
                    credentials=self._credentials,
                    is_stored=True,
                    is_blocked=row.blocked,
                )
            except (ValueError, TypeError, AttributeError) as problem:  # another version may have stored anything
                log.error("stored deployment is left out", model_id=row.model_id, reason=str(problem))

    def _from_file(self, *, is_start: bool = False) -> Iterator[Deployment]:
        """The file's deployments. At the start those that refer to a stored credential are left to the first reload.

        Raises SettingsError at the start for what is wrong; a credential that is missing later is logged.
        """
        for index, row in enumerate(self._settings.model_list):
            try:
                name = named_credential(row["litellm_params"])
                is_known = name is None or name in self._credentials
                if is_known:
                    deployment = self._fixed.get(index) or self._file_entry(row)
                    if name is None:
                        self._fixed[index] = deployment
                    yield deployment
                elif not is_start:
                    log.error("deployment is left out", model_name=row["model_name"], missing_credential=name)
            except ValueError as problem:
                where = f"{self._settings.config_path}: model_list[{index}] ({row['model_name']})"
                if is_start:
                    raise SettingsError(f"{where}: {problem}") from None
                log.error("deployment is left out", entry=where, reason=str(problem))

    def _file_entry(self, row: Mapping[str, Any]) -> Deployment:
        params = {**{key: row[key] for key in ("rpm", "tpm", "weight") if key in row}, **row["litellm_params"]}
        return build_deployment(
            row["model_name"], params, row.get("model_info"), self._environment, credentials=self._credentials
        )

    def _index(self) -> None:
        by_name: dict[str, list[Deployment]] = {}
        by_team: dict[tuple[str, str], list[Deployment]] = {}
        for deployment in self.all():
            if deployment.provider.is_pass_through_only:
                continue  # lends its credential; nobody can ask for it as a model
            if deployment.team_id is None:
                by_name.setdefault(deployment.model_name, []).append(deployment)
                continue
            for name in {deployment.public_name, deployment.model_name}:
                by_team.setdefault((deployment.team_id, name), []).append(deployment)
        self._by_name = {name: tuple(members) for name, members in by_name.items()}
        self._patterns = Patterns(self._by_name.items())
        self._by_team = {name: tuple(members) for name, members in by_team.items()}
        self._by_id = {deployment.id: deployment for deployment in self.all()}


def _configured_credentials(settings: Settings) -> Credentials:
    """`credential_list` of the file: name -> values."""
    return MappingProxyType({row["credential_name"]: row["credential_values"] for row in settings.credential_list})
