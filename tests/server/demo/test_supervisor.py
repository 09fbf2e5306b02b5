"""The start of several processes, of which one ends while another is still waited for."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from app.server.demo.instances import Instance
from app.server.demo.state import CredentialStore, DemoError
from app.server.demo.supervisor import Demo
from tests.services.ports import free_port

ANSWERS_ONCE = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
with http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    server.handle_request()
print("was up")
raise SystemExit(7)
"""
NEVER_ANSWERS = "import time; time.sleep(600)"


def instance(name: str, directory: Path, program: str) -> Instance:
    port = free_port()
    return Instance(name, port, (sys.executable, "-c", program, str(port)), dict(os.environ), directory / name, "/")


def test_one_that_was_up_and_ends_is_reported_while_another_is_waited_for(tmp_path: Path) -> None:
    instances = [instance("worker-a", tmp_path, ANSWERS_ONCE), instance("worker-b", tmp_path, NEVER_ANSWERS)]
    demo = Demo(instances, CredentialStore(tmp_path / "credentials.json", []), tmp_path)
    with pytest.raises(DemoError, match=r"(?s)worker-a ended \(exit code 7\); the end of .*:\n.*  was up$"):
        asyncio.run(demo.run())
