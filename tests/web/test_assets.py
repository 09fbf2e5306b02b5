"""Vendored files are what their manifest pins, and templates only name what is there and what the policy allows."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from app.web.assets import STATIC_FOLDER, TEMPLATE_FOLDER, AssetError, Assets

TEMPLATES = sorted(TEMPLATE_FOLDER.rglob("*.html"))
VENDOR = STATIC_FOLDER / "vendor"


def test_every_vendored_file_is_in_the_manifest_with_its_licence() -> None:
    entries = json.loads((VENDOR / "manifest.json").read_text())["files"]
    named = {entry["file"] for entry in entries} | {entry["licence"] for entry in entries} | {"manifest.json"}
    assert named == {file.name for file in VENDOR.iterdir()}
    assert "://" not in (VENDOR / "manifest.json").read_text()


def test_a_changed_file_is_refused_at_start(tmp_path: Path) -> None:
    folder = tmp_path / "static"
    shutil.copytree(STATIC_FOLDER, folder)
    (folder / "vendor" / "htmx.min.js").write_text("alert(1)")
    with pytest.raises(AssetError, match=r"htmx\.min\.js"):
        Assets(folder)


def test_versions_follow_the_content() -> None:
    assets = Assets()
    assert assets["console.css"].version != assets["tokens.css"].version
    assert assets.get("../pyproject.toml") is None and assets.get("vendor") is None


def _icons_used() -> set[str]:
    sources = [*TEMPLATES, *(TEMPLATE_FOLDER.parent / "app" / "control_plane").glob("*.py")]
    text = "\n".join(file.read_text() for file in sources)
    direct = re.findall(r'icon\("([a-z-]+)"', text) + re.findall(r'empty\("([a-z-]+)"', text)
    chosen = re.findall(r'icon_name(?:=| or )"([a-z-]+)"', text) + re.findall(
        r'"([a-z-]+)" if is_role else "([a-z-]+)"', text
    )
    tables = re.findall(r'\("\w+", "[A-Z]\w+", "([a-z-]+)"', text)
    arrows = ["arrow-up", "arrow-down"]
    flat = [name for found in chosen for name in ([found] if isinstance(found, str) else found)]
    return {*direct, *flat, *tables, *arrows}


def test_every_icon_is_in_the_sprite_and_every_symbol_is_used() -> None:
    there = set(re.findall(r'<symbol id="([^"]+)"', (VENDOR / "sprite.svg").read_text()))
    assert _icons_used() - there == set()
    assert there - _icons_used() == set()


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda file: file.name)
def test_templates_keep_the_content_security_policy(template: Path) -> None:
    text = template.read_text()
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", text)
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)
    assert "https://" not in text.replace("https://llm.acme.example/v1", "")
    assert "|safe" not in text.replace("'<div></div>'|safe", "")


def test_raw_colours_live_in_the_token_sheet_only() -> None:
    text = (STATIC_FOLDER / "console.css").read_text()
    assert not re.search(r"#[0-9a-f]{3,8}\b|rgba?\(|hsl\(", text, re.IGNORECASE)
    used = set(re.findall(r"var\((--[a-z0-9-]+)[,)]", text))
    defined = set(re.findall(r"(--[a-z0-9-]+):", (STATIC_FOLDER / "tokens.css").read_text() + text))
    assert used - defined == set()
