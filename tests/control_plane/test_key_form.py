"""What a page with a new key says about its use."""

from __future__ import annotations

from app.control_plane.key_form import try_it


def test_the_command_fits_the_models_of_the_key() -> None:
    known = [{"name": "emb", "mode": "embedding"}, {"name": "chat", "mode": "chat"}]
    assert "/v1/chat/completions" in try_it("http://w", "sk-1", [], known)
    assert "/v1/embeddings" in try_it("http://w", "sk-1", ["emb"], known)
    assert '"chat"' in try_it("http://w", "sk-1", ["all-team-models"], known)
    assert "it'" not in try_it("http://w", "sk-1", ["it's"], known)
