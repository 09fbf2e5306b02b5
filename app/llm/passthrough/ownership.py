"""Resources of a provider's account that all callers of the gateway would share, by path. Pure.

No tenant may read files and jobs of another, and a credential that a provider issues would bypass every budget. Paths
are read as the most lenient server might read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote

_SHARED_RESOURCES = frozenset(
    "files uploads batches fine_tuning fine-tunes assistants threads vector_stores containers evals conversations "
    "organization organizations admin_api_keys skills cachedcontents tunedmodels filesearchstores "
    "batchpredictionjobs tuningjobs model-invocation-job model-invocation-jobs datasets".split()
)
_OPENAI_RESOURCES = frozenset("client_secrets transcription_sessions sessions dashboard voice_consents".split())
_PROVIDER_RESOURCES: Mapping[str, frozenset[str]] = {
    "openai": _OPENAI_RESOURCES,
    "azure": _OPENAI_RESOURCES,
    "anthropic": frozenset("sessions environments agents vaults memory_stores".split()),
    "gemini": frozenset("auth_tokens corpora generatedfiles permissions".split()),
    "mistral": frozenset("batch libraries".split()),
    "cohere": frozenset("embed-jobs connectors finetuning".split()),
    "hosted_vllm": frozenset(
        "load_lora_adapter unload_lora_adapter sleep wake_up pause resume reset_prefix_cache reset_mm_cache "
        "reset_encoder_cache collective_rpc update_weights start_profile stop_profile abort_requests "
        "scale_elastic_ep server_info".split()
    ),
}
# Methods of Google's APIs that create a job in the account.
_JOB_METHODS = frozenset({"batchgeneratecontent", "asyncbatchembedcontent"})
# Stored results of earlier calls: lists of them are shared, one of them can be read by its id.
_LISTED_RESOURCES = frozenset("completions videos responses interactions agents deployments".split())
# Vertex AI is a whole cloud, down to jobs that run any program: only calls of models are for all callers.
_VERTEX_MODEL_METHODS = frozenset(
    "generatecontent streamgeneratecontent counttokens computetokens embedcontent predict rawpredict streamrawpredict "
    "serverstreamingpredict directpredict directrawpredict predictlongrunning fetchpredictoperation explain rank "
    "search searchlite answer streamanswer converse recommend check generategroundedcontent "
    "streamgenerategroundedcontent".split()
)


def shared_account_resource(provider: str, method: str, segments: Iterable[str]) -> str | None:
    """The part of a path that names a resource shared by all callers of this gateway, as `files`; None without one."""
    parts = list(plain_parts(segments))
    shared = _SHARED_RESOURCES | _PROVIDER_RESOURCES.get(provider, frozenset())
    for name, verb in parts:
        if name in shared or verb in _JOB_METHODS:
            return name
    names, last = [name for name, _ in parts], parts[-1]
    if provider == "vertex_ai" and not _is_vertex_model_call(method, names, last[1]):
        return last[0]
    if method in ("GET", "HEAD") and last[0] in _LISTED_RESOURCES:
        return last[0]
    if method in ("PUT", "PATCH", "DELETE"):
        return next((name for name in names if name in ("models", "deployments")), None)
    return None


def _is_vertex_model_call(method: str, names: list[str], verb: str) -> bool:
    is_openai = "endpoints" in names and names[-2:] == ["chat", "completions"]
    is_of_publisher = method in ("GET", "HEAD") and "publishers" in names
    return verb in _VERTEX_MODEL_METHODS or is_openai or is_of_publisher


def plain_parts(segments: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each part of a path as `(name, verb)` in lower case: `Models%2Fg-1:predict` is `models` and `g-1`, `predict`."""
    for segment in segments:
        text = segment
        for _ in range(4):
            text = unquote(text)
        for part in text.lower().split("/"):
            name, _, verb = part.partition(";")[0].partition(":")
            yield name.strip().rstrip("."), verb.strip()
