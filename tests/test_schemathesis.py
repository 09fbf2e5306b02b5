"""Schemathesis calls every operation of /openapi.json with what the document allows and with what it does not.

For more examples change `EXAMPLES` and `RUNS`. What is left out, and why, is said in tests/schemathesis.toml,
tests/schemathesis_hooks.py and at `document_for_tests`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.admin.everyone import MODEL_LIST, callers_of
from tests.services.quarterdeck import QuarterdeckFactory
from tests.source_files import ROOT

Document = dict[str, Any]

TODAY = datetime.now(UTC).date()
EXAMPLES = 4
# Caller, phases, mode. Coverage of all that is wrong takes 20,000 calls: by hand, with "all".
RUNS = [("M", "examples,fuzzing", "all"), ("I", "examples,fuzzing", "all"), ("M", "coverage", "positive")]
# Names that the instance knows, so that calls get past "there is no such team".
KNOWN: dict[str, list[str]] = {
    "team_id": ["crew", "acme-team"],
    "user_id": ["I", "T", "U"],
    "organization_id": ["acme", "rival"],
    "model": ["sample"],
    "model_name": ["sample"],
    "budget_id": ["small"],
    "tag": ["blue"],
    "name": ["blue"],
    "access_group": ["group"],
    "credential_name": ["provider"],
    "start_date": [(TODAY - timedelta(days=21)).isoformat()],
    "end_date": [TODAY.isoformat()],
    "end_user_id": ["customer"],
}


def document_for_tests(document: Document, known: dict[str, list[str]]) -> Document:
    """/openapi.json with one way to send a key, with names that the instance knows, and with empty texts.

    Schemathesis would send random keys in the other headers, and a wrong key in `x-litellm-api-key` is a 401 whatever
    else is sent; that each of the headers works is tested in tests/auth. An empty text is no wrong date: it means that
    nothing was sent, as forms send it (app/web/fields.py).
    """
    document["security"] = [{"bearer": []}]
    document["components"]["securitySchemes"] = {"bearer": document["components"]["securitySchemes"]["bearer"]}
    _teach(document["paths"], known)
    return document


def _teach(node: Any, known: dict[str, list[str]]) -> None:
    if isinstance(node, list):
        for child in node:
            _teach(child, known)
    elif isinstance(node, dict):
        if node.get("format") in ("date", "date-time") and node.get("type") == "string":
            dated = {**node}
            node.clear()
            node["anyOf"] = [dated, {"type": "string", "maxLength": 0}]
            return
        if node.get("in") in ("query", "path") and node["name"] in known:
            node["schema"] = _with_known(node["schema"], known[node["name"]])
        for name, schema in node.get("properties", {}).items() if isinstance(node.get("properties"), dict) else ():
            if name in known and isinstance(schema, dict):
                node["properties"][name] = _with_known(schema, known[name])
        for child in node.values():
            _teach(child, known)


def _with_known(schema: Document, values: list[str]) -> Document:
    return {"anyOf": [{"type": "string", "enum": values}, schema]} if _takes_text(schema) else schema


def _takes_text(schema: Document) -> bool:
    return schema.get("type") == "string" or any(map(_takes_text, schema.get("anyOf", ())))


async def _prepared(http: httpx.AsyncClient) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The keys of all callers, and what the instance knows beside `KNOWN`."""
    callers = await callers_of(http)
    admin = callers["M"]
    spare = await admin.new_key(user_id="I", key_alias="spare")
    for path, body in (
        ("/budget/new", {"budget_id": "small", "max_budget": 1}),
        ("/tag/new", {"name": "blue"}),
        ("/customer/new", {"user_id": "customer"}),
        ("/credentials", {"credential_name": "provider", "credential_values": {"api_key": "x"}, "credential_info": {}}),
    ):
        answer = await admin.post(path, **body)
        assert answer.status_code < 300, answer.text
    keys = [spare["key"], spare["token"]]
    return {letter: one.key for letter, one in callers.items()}, {"key": keys, "key_alias": ["spare"]}


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("caller", "phases", "mode"), RUNS)
async def test_schemathesis_finds_nothing(
    caller: str,
    phases: str,
    mode: str,
    quarterdeck_process: QuarterdeckFactory,
    migrated_sqlite_url: str,
    tmp_path: Path,
) -> None:
    config = {"model_list": list(MODEL_LIST), "general_settings": {"control_plane_url": "https://deck.example.com"}}
    instance = quarterdeck_process(config, database_url=migrated_sqlite_url)
    async with httpx.AsyncClient(base_url=instance.url, timeout=30) as http:
        keys, more = await _prepared(http)
        document = document_for_tests((await http.get("/openapi.json")).json(), KNOWN | more)
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(document))
    finished = run_schemathesis(file, instance.url, keys[caller], phases=phases, mode=mode, examples=EXAMPLES)
    report = finished.stdout + finished.stderr
    assert finished.returncode == 0, report[-20_000:] + instance.log_text()[-3_000:]
    assert "No test cases" not in report


def run_schemathesis(
    document: Path, url: str, key: str, *, phases: str, mode: str, examples: int
) -> subprocess.CompletedProcess[str]:
    """One run, the same each time; it ends with status 0 when it finds nothing."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(ROOT / "tests/schemathesis.toml"), "run"),
        *(str(document), "--url", url, "--header", f"Authorization: Bearer {key}"),
        *("--phases", phases, "--mode", mode),
        *("--max-examples", str(examples), "--seed", "7", "--generation-deterministic", "--workers", "1"),
        *(
            "--suppress-health-check",
            "all",
            "--no-shrink",
            "--continue-on-failure",
            "--no-color",
            "--warnings",
            "off",
            "--request-timeout",
            "30",
        ),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(ROOT / "tests/schemathesis_hooks.py")}
    return subprocess.run(
        command, cwd=document.parent, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
