"""Which calls below a provider's prefix are for every key: those that ask a model, listed per provider. Pure.

Everything else reaches what all callers of the gateway's account at the provider share: files, jobs, sessions, agents,
memories, stored responses and videos, controls of an engine. No owner of those is recorded, so they are for admins.
A call that a provider adds tomorrow is for admins until it is listed here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote

import msgspec

_VERSION = re.compile(r"v\d+((alpha|beta)\d*)?")
# Parts of a path behind which the API of another provider begins, with a version of its own.
_DIALECT_PARTS = frozenset({"openai", "compatibility", "anthropic"})

_MODELS = ("GET models", "GET models/*")
_OPENAI_CALLS = (
    "POST chat/completions",
    "POST completions",
    "POST responses",
    "POST responses/compact",
    "POST responses/input_tokens",
    "POST embeddings",
    "POST moderations",
    "POST images/generations",
    "POST images/edits",
    "POST images/variations",
    "POST audio/speech",
    "POST audio/transcriptions",
    "POST audio/translations",
    "POST videos",
)
_ANTHROPIC_CALLS = ("POST messages", "POST messages/count_tokens")


def _below(prefix: str, calls: Sequence[str]) -> tuple[str, ...]:
    """The same calls with more in front of their paths."""
    return tuple(call.replace(" ", f" {prefix}", 1) for call in calls)


# Provider -> `METHOD path`, in lower case and without versions; `*` is one segment.
_CALLS: Mapping[str, tuple[str, ...]] = {
    "openai": (*_OPENAI_CALLS, *_MODELS),
    "azure": (
        *_OPENAI_CALLS,
        *_MODELS,
        *_below("openai/", (*_OPENAI_CALLS, *_MODELS)),
        *_below("openai/deployments/*/", _OPENAI_CALLS),
        *_below("deployments/*/", _OPENAI_CALLS),
        *_below("models/", ("POST chat/completions", "POST embeddings", "POST images/embeddings", "GET info")),
        *_below("anthropic/", (*_ANTHROPIC_CALLS, *_MODELS)),
    ),
    "anthropic": ("POST complete", *_ANTHROPIC_CALLS, *_MODELS),
    "gemini": (
        "POST models/*:generatecontent",
        "POST models/*:streamgeneratecontent",
        "POST models/*:counttokens",
        "POST models/*:embedcontent",
        "POST models/*:batchembedcontents",
        "POST models/*:predict",
        "POST models/*:predictlongrunning",
        "POST interactions",
        *_below("openai/", ("POST chat/completions", "POST embeddings", "POST images/generations", *_MODELS)),
        *_MODELS,
    ),
    "bedrock": (
        "POST model/*/converse",
        "POST model/*/converse-stream",
        "POST model/*/invoke",
        "POST model/*/invoke-with-response-stream",
        "POST model/*/count-tokens",
        "POST guardrail/*/version/*/apply",
        "POST rerank",
        "POST optimize-prompt",
        "POST openai/chat/completions",
    ),
    "cohere": (
        "POST chat",
        "POST generate",
        "POST embed",
        "POST rerank",
        "POST classify",
        "POST summarize",
        "POST tokenize",
        "POST detokenize",
        "POST audio/transcriptions",
        *_below("compatibility/", ("POST chat/completions", "POST embeddings")),
        *_MODELS,
    ),
    "mistral": (
        "POST chat/completions",
        "POST fim/completions",
        "POST embeddings",
        "POST moderations",
        "POST chat/moderations",
        "POST classifications",
        "POST chat/classifications",
        "POST ocr",
        "POST audio/speech",
        "POST audio/transcriptions",
        *_MODELS,
    ),
    "hosted_vllm": (
        "POST chat/completions",
        "POST completions",
        "POST responses",
        *_ANTHROPIC_CALLS,
        "POST embeddings",
        "POST pooling",
        "POST classify",
        "POST score",
        "POST rerank",
        "POST tokenize",
        "POST detokenize",
        "POST audio/speech",
        "POST audio/transcriptions",
        "POST audio/translations",
        "POST images/generations",
        "GET health",
        "GET version",
        *_MODELS,
    ),
}
_PATTERNS = {
    provider: [(call.partition(" ")[0], call.partition(" ")[2].split("/")) for call in calls]
    for provider, calls in _CALLS.items()
}
# Vertex AI and Discovery Engine name a call by its verb. Operations, whose results belong to who began them, are not
# among these, nor are jobs.
_VERTEX_VERBS = frozenset(
    "generatecontent streamgeneratecontent counttokens computetokens embedcontent predict rawpredict streamrawpredict "
    "serverstreamingpredict directpredict directrawpredict predictlongrunning explain rank search searchlite answer "
    "streamanswer recommend check generategroundedcontent streamgenerategroundedcontent".split()
)
_VERTEX_SHARED_PARTS = frozenset(
    "sessions conversations agents assistants memories reasoningengines cachedcontents operations".split()
)


def is_model_call(provider: str, method: str, segments: Sequence[str]) -> bool:
    """Whether every key may make this call. `segments` are decoded once; what could be read otherwise is refused."""
    method = "GET" if method == "HEAD" else method
    if provider == "vertex_ai":
        return _is_vertex_model_call(method, segments)
    if not all(_reads_one_way(segment, allows_slash=provider == "bedrock") for segment in segments):
        return False
    names = _without_versions([segment.lower() for segment in segments])
    return any(method == allowed and _matches(names, pattern) for allowed, pattern in _PATTERNS.get(provider, ()))


def _reads_one_way(segment: str, *, allows_slash: bool) -> bool:
    """Whether no server reads more or less into a segment than what stands there. An ARN of Bedrock has a slash."""
    has_slash = "/" in segment and not (allows_slash and segment.startswith("arn:"))
    return unquote(segment) == segment and ";" not in segment and not has_slash and segment == segment.strip(" .")


def _without_versions(names: list[str]) -> list[str]:
    if len(names) > 1 and _VERSION.fullmatch(names[0]):
        names = names[1:]
    if len(names) > 2 and names[0] in _DIALECT_PARTS and _VERSION.fullmatch(names[1]):
        names = [names[0], *names[2:]]
    return names


def _matches(names: Sequence[str], pattern: Sequence[str]) -> bool:
    return len(names) == len(pattern) and all(map(_matches_part, names, pattern))


def _matches_part(name: str, pattern: str) -> bool:
    # A verb is what follows the only colon; a model of other providers may have colons of its own.
    return fnmatchcase(name, pattern) and (":" not in pattern or name.count(":") == 1)


def _is_vertex_model_call(method: str, segments: Sequence[str]) -> bool:
    parts = list(plain_parts(segments))
    names, verbs = [name for name, _ in parts], [verb for _, verb in parts]
    if _VERTEX_SHARED_PARTS & set(names) or any(verbs[:-1]) or not all(map(_decodes_once, segments)):
        return False
    if method == "GET":
        return "publishers" in names and not verbs[-1]
    is_openai = "endpoints" in names and names[-2:] == ["chat", "completions"]
    return method == "POST" and (verbs[-1] in _VERTEX_VERBS or is_openai)


def _decodes_once(segment: str) -> bool:
    return unquote(segment) == segment and ";" not in segment


def plain_parts(segments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each part of a path as `(name, verb)` in lower case: `Models%2Fg-1:predict` is `models` and `g-1`, `predict`."""
    for segment in segments:
        text = fully_decoded(segment)
        for part in text.lower().split("/"):
            name, _, verb = part.partition(";")[0].partition(":")
            yield name.strip().rstrip("."), verb.strip()


def fully_decoded(segment: str) -> str:
    """A segment without any percent-encoding, however often it was encoded (up to what `safe_segments` lets pass)."""
    for _ in range(4):
        segment = unquote(segment)
    return segment


# ---- bodies --------------------------------------------------------------------------------------------------------

# Fields that name what an earlier call stored, in lower case and without `_`: Google's servers read both spellings.
_TOP_REFERENCES = frozenset(
    "previousresponseid previousinteractionid conversation conversationid cachedcontent container session".split()
)
_NESTED_REFERENCES = frozenset({"fileid", "vectorstoreids", "container"})
_FILE_ADDRESS = re.compile(r"(https?://generativelanguage\.googleapis\.com/\S*?)?/?files/\S+", re.IGNORECASE)


def shared_reference(body: bytes) -> str | None:
    """The field of a JSON body that names something stored at the provider, as a file or an earlier response.

    None without one, and for what is no JSON object: bodies that cannot be read are refused elsewhere.
    """
    if b'"' not in body:
        return None
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    top = (name for name, value in fields.items() if _spelled(name) in _TOP_REFERENCES and _names_something(value))
    return next(top, None) or next(_nested_references(fields), None)


def _spelled(name: str) -> str:
    return name.lower().replace("_", "")


def _names_something(value: Any) -> bool:
    """Whether a value names something that exists: a session `…/-` of Discovery Engine is a new one."""
    if isinstance(value, dict):
        return bool(value.get("id"))
    return isinstance(value, str) and bool(value) and not value.endswith("/-")


def _nested_references(value: Any) -> Iterator[str]:
    """Names of fields of typed objects, as `{"type": "input_file", "file_id": …}`, at any depth."""
    for item in value if isinstance(value, list) else ():
        yield from _nested_references(item)
    if not isinstance(value, dict):
        return
    for name, item in value.items():
        spelled = _spelled(name)
        is_named = spelled in _NESTED_REFERENCES and "type" in value and isinstance(item, str | list) and bool(item)
        is_file = spelled == "fileuri" and isinstance(item, str) and _FILE_ADDRESS.fullmatch(item.strip())
        if is_named or is_file:
            yield name
        yield from _nested_references(item)
