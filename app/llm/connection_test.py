"""One small call to a provider, to tell whether a deployment that is not stored yet would work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..deployment import build_deployment, named_credential
from ..errors import UpstreamError
from ..protocols.openai import CHAT, COMPLETIONS, EMBEDDINGS
from .upstream import Upstream

_PATIENCE_SECONDS = 20.0
_ENDPOINTS = {"chat": CHAT, "completion": COMPLETIONS, "embedding": EMBEDDINGS}
_BODIES: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1},
    "completion": {"prompt": "Hi", "max_tokens": 1},
    "embedding": {"input": "Hi"},
}


class ConnectionTest:
    def __init__(self, upstream: Upstream, environment: Mapping[str, str]) -> None:
        self._upstream = upstream
        self._environment = environment

    async def test(self, model_name: str, litellm_params: Mapping[str, Any], mode: str) -> Mapping[str, Any]:
        """`{"status": "success"}`, or `{"status": "error", "error": text}` with what went wrong.

        Raises ValueError for parameters that no call can be made of. A stored credential is not used: its owner chose
        the address that it goes to, and the caller of a test chooses another.
        """
        if mode not in _BODIES:
            raise ValueError(f"mode {mode!r} cannot be tested; use {', '.join(_BODIES)}")
        if named_credential(litellm_params) is not None:
            raise ValueError("litellm_credential_name cannot be tested; send the credential itself")
        deployment = build_deployment(model_name, litellm_params, None, self._environment, is_stored=True)
        if deployment.mock_response is not None:
            return {"status": "success"}
        body = msgspec.json.encode({**_BODIES[mode], "model": deployment.upstream_model})
        try:
            answer = await self._upstream.post(
                deployment, _ENDPOINTS[mode].path, body, is_stream=False, seconds=_PATIENCE_SECONDS
            )
            async with answer:
                await answer.read()
        except UpstreamError as error:
            return {"status": "error", "error": deployment.redacted(error.message)}
        return {"status": "success"}
