"""A worker with tenants that do not trust each other: teams, their admins, and the models that these make."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.llm.live_worker import FAST, LiveWorker
from tests.services.quarterdeck import QuarterdeckFactory

# A mocked answer has 10 tokens of the prompt and 20 of the completion.
MOCKED: dict[str, Any] = {"model": "openai/gpt-4o-mini", "mock_response": "of the team"}


@dataclass(frozen=True, slots=True)
class TeamAdmin:
    """`key` manages the team's models, `calls` is a key of the team."""

    worker: LiveWorker
    team_id: str
    key: str
    calls: str

    async def send(self, path: str, method: str = "POST", **body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        return await self.worker.http.request(method, f"{self.worker.url}{path}", json=body, headers=headers)

    async def try_model(self, name: str, params: Mapping[str, Any], **info: Any) -> httpx.Response:
        info = {"team_id": self.team_id, **info}
        return await self.send("/model/new", model_name=name, litellm_params=dict(params), model_info=info)

    async def new_model(self, name: str, params: Mapping[str, Any], **info: Any) -> str:
        """Make a model of the team; answers its id."""
        answer = await self.try_model(name, params, **info)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["model_id"])


async def new_team(worker: LiveWorker, team_id: str, **fields: Any) -> TeamAdmin:
    """A team with an admin of its own, who has no role in the instance."""
    user = await worker.manage("/user/new", user_id=f"admin-of-{team_id}", user_role="internal_user")
    members = [{"role": "admin", "user_id": f"admin-of-{team_id}"}]
    await worker.manage("/team/new", team_id=team_id, members_with_roles=members, **fields)
    return TeamAdmin(worker, team_id, str(user["key"]), await worker.new_key(team_id=team_id))


async def model_for(worker: LiveWorker, team_id: str, name: str, params: Mapping[str, Any], **info: Any) -> str:
    """A model that an admin of the instance makes for a team; answers its id."""
    info = {"team_id": team_id, **info}
    made = await worker.manage("/model/new", model_name=name, litellm_params=dict(params), model_info=info)
    return str(made["model_id"])


@asynccontextmanager
async def worker_with(start: QuarterdeckFactory, config: Mapping[str, Any]) -> AsyncIterator[LiveWorker]:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        yield LiveWorker(start(config, env=FAST), http)


def text_of(answer: httpx.Response) -> str:
    """What a chat answer says."""
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])
