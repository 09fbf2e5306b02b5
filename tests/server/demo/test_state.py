"""Secrets of the demo survive a second start, only the owner can read them, and two demos do not share a directory."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from app.server.demo.state import CredentialStore, DemoError, only_demo_in, write_private


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_credentials_are_made_once(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    first = CredentialStore(path, ["worker-a", "worker-b"])
    first.remember_virtual_key("worker-a", "sk-virtual")
    second = CredentialStore(path, ["worker-a", "worker-b", "worker-c"])
    assert second["worker-b"] == first["worker-b"]
    assert second["worker-a"].virtual_key == "sk-virtual"
    secrets = {second[name].master_key for name in ("worker-a", "worker-b", "worker-c")}
    assert len(secrets) == 3 and all(secret.startswith("sk-") and len(secret) > 30 for secret in secrets)
    assert mode_of(path) == 0o600


@pytest.mark.parametrize("text", ["", "[]", "{", '{"worker-a": {"master": 1}}', '{"worker-a": 1}'])
def test_damaged_credentials_are_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(text)
    with pytest.raises(DemoError, match=r"credentials\.json is damaged"):
        CredentialStore(path, ["worker-a"])


def test_private_files_replace_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "demo.json"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new" and mode_of(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_one_demo_per_directory(tmp_path: Path) -> None:
    directory = tmp_path / ".quarterdeck"
    with only_demo_in(directory):
        with pytest.raises(DemoError, match=r"already runs .* kill \d+"), only_demo_in(directory):
            pass
        assert mode_of(directory) == 0o700
    with only_demo_in(directory):
        pass
