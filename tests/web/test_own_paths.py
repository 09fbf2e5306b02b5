"""A path is the app's own when a route serves it, with whatever method."""

from __future__ import annotations

from quart import Quart

from app.web.own_paths import is_own_path


async def _view(**_: str) -> str:
    return ""


def test_own_paths_are_told_from_free_ones() -> None:
    app = Quart("paths", static_folder=None)
    app.add_url_rule("/a", view_func=_view, methods=["POST"])
    app.add_url_rule("/b/<path:rest>", view_func=_view)
    found = {path: is_own_path(app.url_map, path) for path in ("/a", "/b/c/d", "/b", "/free", "//a")}
    assert found == {"/a": True, "/b/c/d": True, "/b": False, "/free": False, "//a": True}
