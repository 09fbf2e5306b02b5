"""The response cache: looked up after admission, written when an answer is complete.

A hit is a call that cost nothing: it counts against request limits, reserves no budget, and its row in the spend log
says `cache_hit`. Nothing here can fail a call: while the store cannot be reached, every lookup is a miss.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, fields, replace
from typing import Protocol

import msgspec
import structlog
from msgspec import Raw

from ...deployments.deployment import Deployment
from ...errors import UpstreamError
from ...protocols.base import Usage
from ...protocols.dialect import AnswerAssembler, ClientRequest
from ...protocols.dialects import client_dialect
from ...protocols.json_fields import BROKEN_JSON
from ...protocols.openai.answers import restamp
from ...protocols.openai.request import CHAT, COMPLETIONS, EMBEDDINGS
from ...protocols.openai.vectors import Vectors, item_sizes, merged_vectors, read_vectors, shares
from ...settings import Settings
from ...settings.response_cache import CacheParams, CacheSettings, read_cache_params
from ..call import Call, Reply
from ..call_record import CallRecord
from .answer_store import AnswerStore, MemoryAnswers, OpenAnswerStore
from .cache_keys import CacheControls, answer_keys, input_items, read_controls, scope_of

log = structlog.get_logger(__name__)

_FLUSH_MESSAGE, _DELETE_PREFIX = "answers", "answer:"


class StoredAnswer(msgspec.Struct, frozen=True, gc=False):
    """One cached answer. Times in seconds since 1970; `tokens` are those of one embedding."""

    stored_at: float
    ends_at: float
    deployment_id: str
    body: Raw
    tokens: int = 0


_read_stored = msgspec.json.Decoder(StoredAnswer).decode
_encode = msgspec.json.Encoder().encode
_any = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedCall:
    """An admitted call that may use the cache. `serve` calls the providers."""

    controls: CacheControls
    call: Call
    request: ClientRequest
    group: str
    deployments: Sequence[Deployment]
    record: CallRecord
    serve: Callable[[ClientRequest], Awaitable[Reply]]


class ResponseCache:
    def __init__(
        self,
        settings: Settings,
        params: CacheParams,
        store: AnswerStore,
        announce: Callable[[str], None],
        open_store: OpenAnswerStore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._open_store = open_store
        self._announce = announce
        self._clock = clock
        self._apply(params)
        self.reconfigure(settings)

    def _apply(self, params: CacheParams) -> None:
        self.params = params
        self._endpoints = [
            endpoint for endpoint in (CHAT, COMPLETIONS, EMBEDDINGS) if _is_cached(endpoint.call_type, params)
        ]

    async def change(self, settings: Settings) -> None:
        """Apply changed `cache_params` while calls run. A new store begins empty; the old one is closed.

        Answers in Redis stay there until they expire.
        """
        params = _params_of(settings)
        if params.place == self.params.place:
            self._apply(params)
            return
        # In a thread: importing the client of Redis may take longer than a call should wait.
        store = await asyncio.to_thread(self._open_store, params)
        old, self._store = self._store, store
        self._apply(params)
        await old.close()

    def reconfigure(self, settings: Settings) -> None:
        """Take settings that changed while running."""
        self._always_includes_usage = settings.always_include_stream_usage
        self._has_tag_filtering = settings.enable_tag_filtering

    def controls_of(self, call: Call, request: ClientRequest) -> CacheControls | None:
        """The cache controls of a call, None for one that does not use the cache. Raises InvalidRequest, Forbidden."""
        if request.endpoint not in self._endpoints:
            return None
        return read_controls(request.fields, call.cache_control, self.params, call.principal.allowed_cache_controls)

    async def answer(self, cached_call: CachedCall) -> Reply:
        """The answer of an earlier call, else that of a provider."""
        call, request = cached_call.call, cached_call.request
        keys = answer_keys(
            request,
            group=cached_call.group,
            owners={deployment.team_id or "" for deployment in cached_call.deployments},
            scope=scope_of(call.principal, self.params.scope),
            namespace=cached_call.controls.namespace,
            tags=(*call.principal.tags, *call.tags) if self._has_tag_filtering else (),
        )
        if not keys:
            return await cached_call.serve(request)
        cached_call.record.cache_key = keys[0]
        found = await self._lookup(cached_call.controls, keys)
        if request.endpoint is EMBEDDINGS:
            return await self._embeddings(cached_call, keys, found)
        hit = self._hit(cached_call, found[0]) if found[0] is not None else None
        return hit or await self._miss(cached_call, keys[0])

    async def _lookup(self, controls: CacheControls, keys: list[str]) -> list[StoredAnswer | None]:
        if not controls.reads:
            return [None] * len(keys)
        now, oldest = self._clock(), controls.max_age
        found: list[StoredAnswer | None] = []
        for value in await self._store.get_many(keys):
            try:
                stored = _read_stored(value) if value is not None else None
            except BROKEN_JSON:
                stored = None
            if stored is not None and (
                stored.ends_at <= now or (oldest is not None and now - stored.stored_at > oldest)
            ):
                stored = None
            found.append(stored)
        return found

    def _store_answer(
        self, controls: CacheControls, key: str, deployment_id: str, body: bytes, tokens: int = 0
    ) -> None:
        now = self._clock()
        value = _encode(StoredAnswer(now, now + controls.seconds, deployment_id, Raw(body), tokens))
        if controls.seconds > 0 and len(value) <= self.params.max_entry_bytes:
            self._store.put(key, value, controls.seconds)

    # ---- chat and text completions ---------------------------------------------------------------------------------

    def _hit(self, cached_call: CachedCall, stored: StoredAnswer) -> Reply | None:
        request, record = cached_call.request, cached_call.record
        try:
            body, usage = restamp(bytes(stored.body), request.model)
        except BROKEN_JSON:
            return None
        if request.is_stream and not client_dialect(request).is_complete(body):
            return None
        record.succeed_from_cache(
            usage or Usage(), _deployment_of(cached_call.deployments, stored), None if request.is_stream else body
        )
        if not request.is_stream:
            return Reply(record.headers(), body)
        wants_usage = request.wants_usage or self._always_includes_usage
        return Reply(record.headers(), frames=_replayed(request, body, wants_usage=wants_usage))

    async def _miss(self, cached_call: CachedCall, key: str) -> Reply:
        reply = await cached_call.serve(cached_call.request)
        # A fallback's answer is not what this model would say once it is back.
        if cached_call.controls.writes and not cached_call.record.fallbacks:
            if reply.frames is not None:
                reply.frames = self._collected(reply.frames, cached_call, key)
                await anext(reply.frames)  # only a generator that has begun ends the call when it is dropped
            elif client_dialect(cached_call.request).is_complete(reply.body):
                self._store_answer(cached_call.controls, key, cached_call.record.deployment_id, reply.body)
        return reply

    async def _collected(
        self, frames: AsyncGenerator[bytes], cached_call: CachedCall, key: str
    ) -> AsyncGenerator[bytes]:
        """Pass a stream on and assemble it on the way. It is stored before its end is sent."""
        assembler = client_dialect(cached_call.request).assembler(cached_call.request.endpoint)
        async with aclosing(frames):
            yield b""
            async for frame in frames:
                if assembler is not None and not assembler.is_given_up:
                    assembler.feed(frame)
                    if assembler.size > self.params.max_entry_bytes:
                        assembler.give_up()
                    elif assembler.is_finished:
                        self._store_stream(assembler, cached_call, key)
                yield frame

    def _store_stream(self, assembler: AnswerAssembler, cached_call: CachedCall, key: str) -> None:
        usage = cached_call.record.usage
        answer = assembler.answer(usage) if usage is not None else None
        assembler.give_up()
        if answer is not None:
            self._store_answer(cached_call.controls, key, cached_call.record.deployment_id, answer)

    # ---- embeddings, item by item ----------------------------------------------------------------------------------

    async def _embeddings(self, cached_call: CachedCall, keys: list[str], found: list[StoredAnswer | None]) -> Reply:
        cached = {index: stored for index, stored in enumerate(found) if stored is not None}
        if len(cached) == len(keys):
            return self._embeddings_hit(cached_call, cached)
        items = input_items(_any(cached_call.request.fields["input"])) or []
        missing = [index for index in range(len(keys)) if index not in cached]
        if not cached:
            reply = await cached_call.serve(cached_call.request)
        else:
            try:
                reply = await cached_call.serve(_of_items(cached_call.request, [items[index] for index in missing]))
            except UpstreamError:
                # Vectors of a fallback's model cannot be mixed with those of this one, so all items are sent.
                return await cached_call.serve(cached_call.request)
        vectors = read_vectors(reply.body, len(missing))
        if vectors is None:
            if not cached:
                return reply
            raise UpstreamError("litellm.APIError: the provider answered another number of embeddings", status=502)
        if cached_call.controls.writes and not cached_call.record.fallbacks:
            sizes = item_sizes([items[index] for index in missing])
            for index, vector, tokens in zip(missing, vectors.embeddings, shares(vectors.tokens, sizes), strict=True):
                self._store_answer(cached_call.controls, keys[index], cached_call.record.deployment_id, vector, tokens)
        if cached:
            fresh = dict(zip(missing, vectors.embeddings, strict=True))
            reply.body = _merged(cached_call.request.model, cached, fresh, vectors)
        return reply

    def _embeddings_hit(self, cached_call: CachedCall, cached: dict[int, StoredAnswer]) -> Reply:
        record = cached_call.record
        body = _merged(cached_call.request.model, cached, {}, Vectors([], 0))
        tokens = sum(stored.tokens for stored in cached.values())
        usage = Usage(prompt_tokens=tokens, raw={"prompt_tokens": tokens, "total_tokens": tokens})
        record.succeed_from_cache(usage, _deployment_of(cached_call.deployments, cached[0]), body)
        return Reply(record.headers(), body)

    # ---- operation -------------------------------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        return self._store.kind

    async def ping(self) -> None:
        """Raises CacheAway."""
        await self._store.ping()

    async def delete(self, keys: Sequence[str]) -> int:
        """Delete answers by the keys of `x-litellm-cache-key`, in all processes. Raises CacheAway."""
        if isinstance(self._store, MemoryAnswers):
            for key in keys:
                self._announce(f"{_DELETE_PREFIX}{key}")
        return await self._store.delete(keys)

    async def flush(self) -> int:
        """Delete all answers, in all processes; returns how many this one had. Raises CacheAway."""
        if isinstance(self._store, MemoryAnswers):
            self._announce(_FLUSH_MESSAGE)
        return await self._store.flush()

    def on_message(self, message: str) -> None:
        """Delete what another process deleted."""
        if isinstance(self._store, MemoryAnswers):
            if message == _FLUSH_MESSAGE:
                self._store.clear()
            elif message.startswith(_DELETE_PREFIX):
                self._store.discard(message.removeprefix(_DELETE_PREFIX))

    async def close(self) -> None:
        await self._store.close()


def open_response_cache(
    settings: Settings, announce: Callable[[str], None], open_store: OpenAnswerStore
) -> ResponseCache | None:
    """The cache of an instance, None where answers are not cached. `announce` sends to the other processes."""
    if not settings.caches_answers:
        return None
    params = _params_of(settings)
    return ResponseCache(settings, params, open_store(params), announce, open_store)


def _params_of(settings: Settings) -> CacheParams:
    params = read_cache_params(settings.cache_params, settings.redis_url)
    for warning in params.warnings:
        log.warning("response cache setting ignored", reason=warning)
    return params


def _is_cached(call_type: str, params: CacheParams) -> bool:
    return params.call_types is None or not params.call_types.isdisjoint((call_type, call_type.removeprefix("a")))


def _deployment_of(deployments: Sequence[Deployment], stored: StoredAnswer) -> Deployment | None:
    """The deployment that gave an answer, None when it is gone."""
    return next((deployment for deployment in deployments if deployment.id == stored.deployment_id), None)


async def _replayed(request: ClientRequest, body: bytes, *, wants_usage: bool) -> AsyncGenerator[bytes]:
    for frames in client_dialect(request).replay(request.endpoint, body, wants_usage=wants_usage):
        yield frames


def _of_items(request: ClientRequest, items: list[object]) -> ClientRequest:
    """The same request for some of its items, without fallbacks: their vectors would not match the cached ones."""
    size = sum(item_sizes(items))
    options = replace(request.options, is_without_fallbacks=True)
    return replace(request.replaced({"input": items}), body_bytes=size, options=options)


def _merged(model: str, cached: dict[int, StoredAnswer], fresh: dict[int, Raw], vectors: Vectors) -> bytes:
    embeddings = {index: stored.body for index, stored in cached.items()} | fresh
    tokens = vectors.tokens + sum(stored.tokens for stored in cached.values())
    return merged_vectors(model, [embeddings[index] for index in sorted(embeddings)], tokens)


# The settings whose change opens another cache.
SETTINGS = frozenset(item.name for item in fields(CacheSettings))


class CacheHolder(Protocol):
    """Where the cache is held while calls run: None while answers are not cached."""

    answers: ResponseCache | None


async def switch_cache(
    holder: CacheHolder, settings: Settings, announce: Callable[[str], None], open_store: OpenAnswerStore
) -> None:
    """Give the holder the cache that these settings ask for. `announce` sends to the other processes."""
    current = holder.answers
    if not settings.caches_answers:
        holder.answers = None
        if current is not None:
            await current.close()
    elif current is not None:
        await current.change(settings)
    else:
        # In a thread: the client of Redis may have to be imported.
        holder.answers = await asyncio.to_thread(open_response_cache, settings, announce, open_store)
