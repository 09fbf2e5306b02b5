"""Models as the API writes them: a deployment without its secrets, and who may see and change which."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from ...auth.model_access import allows
from ...auth.principal import Principal, current_principal
from ...deployments.catalog import Deployment, SkippedDeployment
from ...errors import Forbidden, NotFound
from ...models import StoredDeployment, Team, TeamMembership
from ...models.columns import json_value
from ...security.public_address import may_be_public
from ...services import services
from ...web.fields import bad_request
from ..teams.access import TeamPermissions, permissions_over

Answer = dict[str, Any]


def deployment_row(deployment: Deployment, *, with_address: bool) -> Answer:
    """A deployment without any secret; prices are USD per token. Only who sees all learns where it is."""
    params = {name: json_value(value) for name, value in deployment.public_params().items()}
    if not with_address:
        params = {name: value for name, value in params.items() if name not in ("api_base", "base_url")}
    own_info = {name: json_value(value) for name, value in deployment.model_info.items()}
    info = {
        "max_tokens": None,
        "max_output_tokens": None,
        **own_info,
        "id": deployment.id,
        "db_model": deployment.is_stored,
        "blocked": deployment.is_blocked,
        "key": deployment.upstream_model,
        "litellm_provider": deployment.provider.name,
        "mode": mode_of(deployment),
        "max_input_tokens": max_input_tokens(deployment),
        "input_cost_per_token": json_value(deployment.input_cost_per_token),
        "output_cost_per_token": json_value(deployment.output_cost_per_token),
    }
    return {"model_name": deployment.public_name, "litellm_params": params, "model_info": info}


def mode_of(deployment: Deployment) -> str:
    """As declared, else by its name: the field names its embedding models so."""
    declared = deployment.model_info.get("mode")
    return str(declared or ("embedding" if "embed" in deployment.upstream_model.lower() else "chat"))


def max_input_tokens(deployment: Deployment) -> int | None:
    declared = deployment.model_info.get("max_input_tokens")
    listed = deployment.prices.max_input_tokens if deployment.prices is not None else None
    return declared if isinstance(declared, int) else listed


def rows_of_deployments(deployments: Iterable[Deployment]) -> list[Answer]:
    with_address = current_principal().can_read_all
    return [deployment_row(deployment, with_address=with_address) for deployment in deployments]


def skipped_row(skipped: SkippedDeployment) -> Answer:
    """A deployment that cannot be served, in the shape of one that can, with `skipped_because`."""
    info = {
        "id": skipped.id,
        "db_model": skipped.is_stored,
        "blocked": True,
        "skipped_because": skipped.reason,
        "skipped_at": skipped.place,
    }
    params = {name: json_value(value) for name, value in skipped.public_params().items()}
    return {"model_name": skipped.model_name, "litellm_params": params, "model_info": info}


def visible_skipped(principal: Principal) -> list[SkippedDeployment]:
    """What cannot be served, for admins and viewers: the reason may name addresses."""
    return services().deployments.skipped() if principal.can_read_all else []


async def visible_deployments(principal: Principal) -> list[Deployment]:
    """All for admins and viewers, else those that the caller may call and those of the caller's teams."""
    deployments = services().deployments.all()
    if principal.can_read_all:
        return deployments
    teams = {principal.team_id}
    if principal.user_id is not None and any(deployment.team_id for deployment in deployments):
        teams.update([row.team_id async for row in TeamMembership.filter(user_id=principal.user_id)])
    return [
        deployment
        for deployment in deployments
        if (deployment.team_id in teams if deployment.team_id is not None else _may_call(principal, deployment))
    ]


def _may_call(principal: Principal, deployment: Deployment) -> bool:
    return allows(principal, deployment.model_name, frozenset(deployment.access_groups))


# ---- who may change ------------------------------------------------------------------------------------------------


async def check_may_manage(principal: Principal, team_id: str | None) -> None:
    """Raises 403 unless the caller is an admin, or the model is of a team that the caller administers."""
    if principal.is_admin:
        return
    team = await Team.get_or_none(team_id=team_id) if team_id else None
    if team is None or await permissions_over(principal, team) < TeamPermissions.TEAM_ADMIN:
        raise Forbidden(f"user not allowed to change models, role= {principal.role.value}")


async def check_may_change(principal: Principal, row: StoredDeployment) -> None:
    """Raises 403 unless the caller is an admin, or the team that the caller administers made this model itself.

    What an admin of the instance made for a team is the instance's: its prices, limits, address and credential.
    """
    await check_may_manage(principal, row.model_info.get("team_id") if row.is_team_made else None)


async def need_team(team_id: str) -> None:
    """Raises 404 for a team that does not exist."""
    if not await Team.exists(team_id=team_id):
        raise NotFound(f"Team not found, passed team_id={team_id}", param="model_info.team_id")


def check_target(principal: Principal, params: Mapping[str, Any]) -> None:
    """What an admin of a team may point this instance at: own credentials, and public addresses by https.

    Neither the instance's keys nor what only it can reach are for a team to give away. Raises 403.
    """
    if principal.is_admin:
        return
    if params.get("use_in_pass_through"):
        # Relayed calls bill the shared budgets, and may fall back on the credentials of the environment.
        raise _for_admins("lend a credential to pass-through", "litellm_params.use_in_pass_through")
    if params.get("litellm_credential_name"):
        raise _for_admins("refer to a shared credential", "litellm_params.litellm_credential_name")
    if not params.get("api_key") and params.get("mock_response") is None:
        raise _for_admins("use the instance's own provider key: send the team's api_key", "litellm_params.api_key")
    for name, address in _addresses_in(params):
        if not _is_public(address):
            raise _for_admins("name an address that is not a public https one", f"litellm_params.{name}")
    if params.get("mock_response") is None and not _is_public(_address_of(params)):
        # Some providers are at home on this machine, and the operator may have put others into the own network.
        raise _for_admins("use a provider whose address is not a public https one", "litellm_params.model")


def _addresses_in(params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every address that a deployment's parameters name: (parameter, address)."""
    for name in ("api_base", "base_url", "aws_bedrock_runtime_endpoint"):
        if params.get(name):
            yield name, str(params[name])
    account = params.get("vertex_credentials")
    if isinstance(account, str):
        try:
            account = json.loads(account)
        except ValueError:
            return  # the name of a file, which nothing stored is read from
    if isinstance(account, Mapping):
        yield "vertex_credentials", str(account.get("token_uri"))


def _address_of(params: Mapping[str, Any]) -> str:
    """Where calls would go, also when the parameters leave it to the provider. Raises 400 for wrong parameters."""
    try:
        return services().deployments.check("", params, {}).api_base
    except ValueError as problem:
        raise bad_request(str(problem), "litellm_params") from None


def _for_admins(action: str, param: str) -> Forbidden:
    return Forbidden(f"Only a proxy admin may {action}", param=param)


def _is_public(address: str) -> bool:
    """By its form: https, a name with a dot that is no number and no name of a private network."""
    try:
        parts = urlsplit(address)
    except ValueError as problem:
        raise bad_request(f"litellm_params.api_base: {problem}", "litellm_params.api_base") from None
    host = (parts.hostname or "").rstrip(".").lower()
    is_name = "." in host and ":" not in host and host.rpartition(".")[2].isalpha()
    return parts.scheme == "https" and is_name and may_be_public(address)
