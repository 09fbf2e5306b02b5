"""Files that the browser gets: their addresses, content hashes and, for vendored ones, integrity.

A URL carries the hash of the content (`?v=…`), so a browser may keep the file for a year and still sees an update
at once. Vendored files are pinned by `static/vendor/manifest.json`; a file that differs from its manifest entry is
refused at start, since the browser would refuse it as well.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

STATIC_FOLDER = Path(__file__).resolve().parents[2] / "static"
TEMPLATE_FOLDER = STATIC_FOLDER.parent / "templates"


class AssetError(Exception):
    """A vendored file is missing or is not the one that the manifest pins."""


def integrity(content: bytes) -> str:
    """The value of an `integrity` attribute: `sha384-<base64>`."""
    return "sha384-" + base64.b64encode(hashlib.sha384(content).digest()).decode()


@dataclass(frozen=True)
class Asset:
    """One file under `static/`. `version` is the first 12 hex digits of its SHA-256."""

    path: str
    version: str
    integrity: str


class Assets:
    """Every file of a static folder by its path relative to that folder; read once."""

    def __init__(self, folder: Path = STATIC_FOLDER) -> None:
        self.folder = folder
        self._assets = {asset.path: asset for asset in map(self._read, sorted(folder.rglob("*"))) if asset}
        self._check_manifest()

    def _read(self, file: Path) -> Asset | None:
        if not file.is_file():
            return None
        content = file.read_bytes()
        path = file.relative_to(self.folder).as_posix()
        return Asset(path, hashlib.sha256(content).hexdigest()[:12], integrity(content))

    def _check_manifest(self) -> None:
        manifest = json.loads((self.folder / "vendor" / "manifest.json").read_text())
        for entry in manifest["files"]:
            asset = self._assets.get(f"vendor/{entry['file']}")
            if asset is None or asset.integrity != entry["integrity"]:
                raise AssetError(
                    f"static/vendor/{entry['file']} is not the pinned {entry['package']} {entry['version']}"
                )

    def __getitem__(self, path: str) -> Asset:
        """KeyError for a file that does not exist: a template with a wrong name fails in its first test."""
        return self._assets[path]

    def get(self, path: str) -> Asset | None:
        return self._assets.get(path)
