"""Whose files and batches a caller may touch, and at which provider's account they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from ...auth.model_access import allows
from ...auth.principal import Principal
from ...deployments.catalog import DeploymentCatalog
from ...deployments.deployment import Deployment
from ...errors import InvalidRequest, NotFound
from ...protocols.json_fields import BROKEN_JSON, as_mapping
from ..admission import Admission, AdmissionRequest
from ..upstream.client import Answer, Upstream
from ..upstream.errors import invalid_answer_error
from .object_ids import ObjectRef, encrypted_id, opened_id, owner_tag
from .owner import Payer, payer_in, signature_of

_any = msgspec.json.Decoder().decode

_NOTHING = Decimal(0)
# Who keeps files when nobody says where.
_USUAL = ("openai", "azure")
_WORDS = {"file": "File", "batch": "Batch"}
Query = Sequence[tuple[str, str]]


class ProviderAccounts:
    """The accounts behind the deployments of an instance, for what is kept there."""

    def __init__(self, catalog: DeploymentCatalog, admission: Admission, upstream: Upstream, salt_key: str) -> None:
        self._catalog = catalog
        self._admission = admission
        self._upstream = upstream
        self._salt_key = salt_key

    # ---- who -------------------------------------------------------------------------------------------------------

    def refuse(self, principal: Principal, path: str) -> None:
        """Raises 401 or 403 for a caller who may not be here."""
        principal.refuse_unfit(path, "llm")

    async def admit(self, principal: Principal, path: str, models: Sequence[str]) -> None:
        """The same, and the caller must be granted all of these models and be within every budget and limit."""
        applications = [self._admission_request(principal, path, model) for model in models or ("",)]
        (await self._admission.admit_pass_through(applications)).settle(_NOTHING)

    def _admission_request(self, principal: Principal, path: str, model: str) -> AdmissionRequest:
        named = principal.aliases.get(model, model)
        group, groups = self._catalog.grants_of(named, principal.team_id) if model else ("", frozenset[str]())
        return AdmissionRequest(
            principal=principal,
            model=group,
            path=path,
            deployments=(),
            groups=groups,
            is_own_model=self._catalog.belongs_to_team(group, principal.team_id),
        )

    def _group(self, principal: Principal, model: str) -> str:
        return self._catalog.group_behind(principal.aliases.get(model, model), principal.team_id)

    # ---- where -----------------------------------------------------------------------------------------------------

    def choose(self, principal: Principal, model: str | None, provider: str | None) -> Deployment:
        """The deployment whose account is meant: of this model, of this provider, or the first of OpenAI or Azure.

        Raises InvalidRequest (400) when the caller may use none.
        """
        if model is not None:
            found = self._catalog.behind(self._group(principal, model), principal.team_id)
        else:
            found = tuple(one for one in self._catalog.all() if self._may_use(principal, one))
        names = (provider,) if provider is not None else None if model is not None else _USUAL
        for deployment in found:
            if deployment.mock_response is None and (names is None or deployment.provider.name in names):
                return deployment
        meant = f"model={model}" if model is not None else f"provider={provider or 'openai'}"
        raise InvalidRequest(
            f"There is no deployment with {meant} that you may use; name one with `target_model_names`.",
            param="target_model_names",
        )

    def _may_use(self, principal: Principal, deployment: Deployment) -> bool:
        if deployment.is_blocked or deployment.team_id not in (None, principal.team_id):
            return False
        groups, is_own = frozenset(deployment.access_groups), deployment.team_id is not None
        return allows(principal, deployment.public_name, groups, is_own_model=is_own)

    def name_at(self, account: Deployment, principal: Principal, model: str) -> str:
        """What a model is called at the account of a deployment. Raises InvalidRequest for one that is not there."""
        _, found = self.found_at(account, principal, model)
        if found is not None:
            return found.upstream_model
        raise InvalidRequest(
            f"The model '{model}' is not served by the account that keeps this file; upload one for each account.",
            param="file",
        )

    def found_at(self, account: Deployment, principal: Principal, model: str) -> tuple[str, Deployment | None]:
        """The group that a model's name means to a caller, and which of its deployments is at this account."""
        group = self._group(principal, model)
        behind = self._catalog.behind(group, principal.team_id)
        return group, next((one for one in behind if _account(one) == _account(account)), None)

    def by_id(self, id: str) -> Deployment | None:
        return self._catalog.by_id(id)

    # ---- what ------------------------------------------------------------------------------------------------------

    def owner(self, principal: Principal) -> str:
        return owner_tag(principal, self._salt_key)

    def signature(self, owner: str, payer: Payer) -> str:
        """What goes into a batch's metadata."""
        return signature_of(owner, payer, self._salt_key)

    def payer(self, signature: str) -> Payer | None:
        return payer_in(signature, self._salt_key)

    def encrypt(self, kind: str, ref: ObjectRef) -> str:
        return encrypted_id(kind, ref, self._salt_key)

    def open(self, kind: str, id: str, principal: Principal) -> tuple[ObjectRef, Deployment]:
        """Where a thing of this caller is kept. Raises 404 for what is not there or is somebody else's."""
        ref = opened_id(kind, id, self._salt_key)
        deployment = self._catalog.by_id(ref.deployment_id) if ref is not None else None
        is_theirs = ref is not None and (principal.is_admin or ref.owner == self.owner(principal))
        if ref is None or deployment is None or deployment.is_blocked or not is_theirs:
            raise NotFound(f"No such {_WORDS[kind]} object: {id[:200]}", type="invalid_request_error", param="id")
        return ref, deployment

    async def ask(
        self,
        deployment: Deployment,
        method: str,
        path: str,
        query: Query = (),
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """The JSON object that the provider answers. Raises UpstreamError."""
        async with await self.open_answer(deployment, method, path, query, body, content_type) as answer:
            value = as_mapping(_decoded(await answer.read()))
        if not value:
            raise invalid_answer_error(deployment)
        return value

    async def open_answer(
        self,
        deployment: Deployment,
        method: str,
        path: str,
        query: Query = (),
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        """An open answer with a good status, for bytes. Raises UpstreamError."""
        return await self._upstream.send(
            method, deployment, _url(deployment, path), query=query, body=body, content_type=content_type
        )


def _decoded(body: bytes) -> Any:
    try:
        return _any(body)
    except BROKEN_JSON:
        return None


def _account(deployment: Deployment) -> tuple[str, tuple[tuple[str, str], ...]]:
    return account_root(deployment), tuple(sorted(deployment.headers.items()))


def account_root(deployment: Deployment) -> str:
    """The address below which a deployment's account is."""
    return deployment.dialect.account_address(deployment.api_base)


def _url(deployment: Deployment, path: str) -> str:
    return f"{account_root(deployment)}{path}{deployment.query}"
