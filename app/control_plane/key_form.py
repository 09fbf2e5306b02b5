"""The form of a virtual key: what it offers, what it sends, and what a key row looks like in a table."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

from .blocks import Context
from .formatting import decimal, metered, parse_time
from .forms import Form, jsonable
from .worker_client import Row, WorkerClient
from .worker_errors import WorkerRefused

LIVES = (
    ("", "Never"),
    ("24h", "In 24 hours"),
    ("7d", "In 7 days"),
    ("30d", "In 30 days"),
    ("90d", "In 90 days"),
    ("365d", "In 365 days"),
)
LISTS = ("models",)
SOON = timedelta(days=7)


# What the selects offer. A list that the caller's role may not read stays empty; the form works without it.


async def read_models(client: WorkerClient) -> Context:
    return {"models": public_models(await _allowed(client.list_models()) or [])}


async def read_teams(client: WorkerClient) -> Context:
    """`teams`, and `team_names` by team id."""
    teams = list(await _allowed(client.list_teams()) or [])
    names = {str(team["team_id"]): team.get("team_alias") or str(team["team_id"]) for team in teams}
    return {"teams": teams, "team_names": names}


async def read_users(client: WorkerClient) -> Context:
    answer = await _allowed(client.list_users(size=100))
    return {"users": list(answer.get("users") or []) if isinstance(answer, dict) else []}


FORM_READS = (read_models, read_teams, read_users)


async def _allowed(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except WorkerRefused:
        return None


def public_models(deployments: list[Row]) -> list[Row]:
    """One row per public model name, with the price of its first deployment."""
    rows: dict[str, Row] = {}
    for deployment in deployments:
        info = deployment.get("model_info") or {}
        rows.setdefault(
            str(deployment["model_name"]),
            {
                "name": str(deployment["model_name"]),
                "mode": info.get("mode"),
                "input_price": info.get("input_cost_per_token"),
                "output_price": info.get("output_cost_per_token"),
            },
        )
    return sorted(rows.values(), key=lambda row: str(row["name"]))


def key_fields(form: Form) -> dict[str, Any]:
    """The body of /key/generate and /key/update; None clears. What cannot be read is in `form.errors`."""
    return jsonable(
        {
            "key_alias": form.required("key_alias", "Enter an alias. It names the key in spend and logs."),
            "team_id": form.text("team_id"),
            "user_id": form.text("user_id"),
            "models": form.values.get("models", []),
            "max_budget": form.amount("max_budget"),
            "budget_duration": form.text("budget_duration"),
            "rpm_limit": form.whole("rpm_limit"),
            "tpm_limit": form.whole("tpm_limit"),
        }
    )


def new_key_fields(form: Form) -> dict[str, Any]:
    """Only what was filled in: what is left out may have a default on the worker."""
    fields = {**key_fields(form), "duration": form.text("duration")}
    return {name: value for name, value in fields.items() if value not in (None, "", [])}


def changed_fields(form: Form, key: Row) -> dict[str, Any]:
    """What differs from the stored row. `duration` is sent only when a new life was chosen: `never` clears it."""
    fields = {name: value for name, value in key_fields(form).items() if not _same(key.get(name), value)}
    life = form.values.get("duration", "keep")
    if life != "keep":
        fields["duration"] = life or None
    return fields


def _same(stored: Any, value: Any) -> bool:
    if isinstance(value, int | float) and stored is not None:
        return decimal(stored) == decimal(value)
    return (stored or None) == (value or None) and (stored is None) == (value is None or value == [])


def form_of(key: Row) -> Form:
    """The stored key as form values."""
    names = ("key_alias", "team_id", "user_id", "models", "max_budget", "budget_duration", "rpm_limit", "tpm_limit")
    values = {name: key.get(name) for name in names}
    if values["max_budget"] is not None:
        values["max_budget"] = f"{decimal(values['max_budget']).normalize():f}"
    return Form({**values, "models": list(key.get("models") or []), "duration": "keep"})


def describe(key: Row) -> Row:
    """A key row plus what the console says about it: `name`, `state`, `tail`, `expires_at`, `percent`, `level`."""
    row = metered(key)
    expires_at = parse_time(key.get("expires"))
    if row["state"] != "blocked" and expires_at:
        if expires_at <= datetime.now(UTC):
            row["state"] = "expired"
        elif row["state"] == "active" and expires_at - datetime.now(UTC) < SOON:
            row["state"] = "expiring"
    return {
        **row,
        "hash": key.get("token"),
        "name": key.get("key_alias") or "Without alias",
        "tail": str(key.get("key_name") or "sk-…").replace("sk-...", "sk-…"),
        "models": list(key.get("models") or []),
        "expires_at": expires_at,
    }


def try_it(url: str, secret: str, models: list[str], known: list[Row]) -> str:
    """A curl command that works when pasted: an allowed chat model, or an embedding model if there is no other."""
    modes = {str(row["name"]): row["mode"] for row in known}
    named = [name for name in models if "*" not in name and not name.startswith("all-")]
    allowed = named or list(modes) or ["gpt-5-mini"]
    chat = next((name for name in allowed if modes.get(name) not in ("embedding", "image_generation")), None)
    path, model = ("chat/completions", chat) if chat else ("embeddings", allowed[0])
    question: dict[str, Any] = {"messages": [{"role": "user", "content": "ping"}]} if chat else {"input": "ping"}
    first, rest = json.dumps({"model": model})[:-1], json.dumps(question)[1:]
    body = f"{first},\n       {rest}".replace("'", "\\u0027")
    return (
        f"curl {url}/v1/{path} \\\n  -H 'Authorization: Bearer {secret}' \\\n"
        f"  -H 'Content-Type: application/json' \\\n  -d '{body}'"
    )
