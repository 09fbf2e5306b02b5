"""The Procfile deploys one worker, with nothing but a port, a database, a master key and a configuration file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from tests.conftest import MASTER_KEY
from tests.services.run_directory import RunDirectory
from tests.services.waiting import answers, wait_while_alive
from tests.source_files import ROOT

_CONFIG = """
model_list:
  - model_name: greeter
    litellm_params: {model: openai/greeter, api_key: sk-none, mock_response: Ahoy}
"""


def test_web_process_serves_on_postgres(
    run_directory: RunDirectory, migrated_postgres_url: str, free_port: int, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(_CONFIG)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PORT": str(free_port),
        "DATABASE_URL": migrated_postgres_url,
        "LITELLM_MASTER_KEY": MASTER_KEY,
    }
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["honcho", "--procfile", ROOT / "Procfile", "--app-root", tmp_path, "start", "web"],
            executable=Path(sys.executable).parent / "honcho",
            cwd=tmp_path,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    run_directory.note_process(process.pid)
    try:
        answer = _chat(f"http://127.0.0.1:{free_port}", process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=15)
        run_directory.forget_process(process.pid)
    assert answer.status_code == 200, log.read_text()
    assert answer.json()["choices"][0]["message"]["content"] == "Ahoy"


def _chat(url: str, process: subprocess.Popen[bytes], log: Path) -> httpx.Response:
    body = {"model": "greeter", "messages": [{"role": "user", "content": "Hello"}]}
    wait_while_alive(
        lambda: answers(f"{url}/health/liveliness"),
        is_alive=lambda: process.poll() is None,
        log=log.read_text,
        what="the web process is alive",
    )
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {MASTER_KEY}"})
