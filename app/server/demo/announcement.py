"""What the demo tells people (one block on the terminal) and scripts (`demo.json`)."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from app.server.demo.instances import (
    CHAT_MODEL,
    CONTROL_PLANE,
    EMBEDDING_MODEL,
    PROVIDER,
    SAMPLE_MODELS,
    WORKERS,
    Instance,
)
from app.server.demo.state import USERNAME


def demo_document(instances: Mapping[str, Instance], pids: Mapping[str, int]) -> dict[str, Any]:
    """The content of `demo.json`; both mappings by the name of the process."""

    def account(name: str) -> dict[str, Any]:
        instance = instances[name]
        assert instance.credentials is not None
        return {
            "url": instance.url,
            "username": USERNAME,
            "password": instance.credentials.password,
            "master_key": instance.credentials.master_key,
            "pid": pids[name],
        }

    return {
        "control_plane": account(CONTROL_PLANE),
        "workers": [{"worker_id": row.worker_id, "name": row.name, **account(row.worker_id)} for row in WORKERS],
        "provider": {"url": instances[PROVIDER].url, "pid": pids[PROVIDER]},
        "models": [CHAT_MODEL, EMBEDDING_MODEL],
    }


def announcement(document: Mapping[str, Any], virtual_key: str, directory: str) -> str:
    """The block that the terminal shows. The two curl commands stand alone on their lines and work as they are."""
    worker = document["workers"][0]
    create_key = curl(f"{worker['url']}/key/generate", worker["master_key"], {"max_budget": 5, "duration": "30d"})
    question = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "What is a gateway for?"}]}
    call = curl(f"{worker['url']}/v1/chat/completions", virtual_key, question)
    places = "\n".join(
        f"  {row.name:<16} {account['url']}      {account['username']} / {account['password']}"
        f"   ({row.environment}, {row.region})"
        for row, account in zip(WORKERS, document["workers"], strict=True)
    )
    return f"""
Quarterdeck demo: everything is up. Ctrl-C stops it; the data stay in {directory}/ for the next start.

  Console          {document["control_plane"]["url"]}/ui/   pick a worker, then sign in with its name and password:
{places}
  Sample provider  {document["provider"]["url"]}/v1   models: {", ".join(row[0] for row in SAMPLE_MODELS)}

Create a virtual key on {worker["name"]}, with its master key:

{create_key}

Call {worker["name"]} with a virtual key (this one exists already; your own works the same):

{call}

Logs: {directory}/logs/   All of the above for scripts: {directory}/demo.json
"""


def curl(url: str, key: str, body: Mapping[str, Any]) -> str:
    arguments = ["curl", "-sS", url, "-H", f"Authorization: Bearer {key}", "-H", "Content-Type: application/json"]
    return shlex.join([*arguments, "-d", json.dumps(body)])
