"""Quarterdeck's commands that come to an end: `quarterdeck migrate` and its like."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.services.waiting import HANGS_AFTER_SECONDS

REPOSITORY = Path(__file__).resolve().parents[2]


def run_quarterdeck(
    *arguments: str, environment: Mapping[str, str], directory: Path
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `run_quarterdeck("migrate", …)`; its output and errors come as one text."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=HANGS_AFTER_SECONDS,
        check=False,
    )
