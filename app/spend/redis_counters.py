"""Counters in Redis: one script admits a call against all of its budgets and limits.

Money is counted in whole billionths of a USD, which Redis adds exactly; the ledger has the exact cost. A limit's
window has a bucket per second, and the oldest, partly passed second counts whole: never more than the limit in any
minute. What running calls hold is counted per process, and what a process whose heartbeat stopped held does not count.

    <prefix>b:<budget>    spend                       <prefix>h:<budget>   process -> held
    <prefix>w:<limit>     r<second>, t<second>        <prefix>p:<limit>    process -> running calls
    <prefix>proc:<process>  alive for a few seconds   <prefix>c:<call>     admitted and not settled: second:process
    <prefix>generation    of these figures            <prefix>v:<call>     ended, and v:<process> gone: what of
    <prefix>beat          grows with every heartbeat                         it comes late does not count

Three things go wrong with a Redis that answers. It has restarted, empty or as it was a while ago: the generation is
another one or the beat is behind; each process then reports what runs there, and Redis counts again when the database
knows what was spent (`CountersLost`). Or an answer is late, and whether it was counted is unknown: whoever admits the
call instead settles it here too, under its id (`CountersInDoubt`). Or a counter is not what it should be: it is deleted
and starts anew from the database, the others go on.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from ..storage.cache import CacheAway
from ..tasks import ended
from .counter_faults import CountersInDoubt, CountersLost
from .counters import BudgetCounter, Claim, Hold, Refusal
from .redis_scripts import ADMIT, HEARTBEAT, JOIN, REPAIR, SETTLE, script_name

log = structlog.get_logger(__name__)

PREFIX = "quarterdeck:count:"
_NANO = 10**9
_ZERO = Decimal(0)
# Also how long it may take until a process notices that Redis was restarted.
_HEARTBEAT_SECONDS = 2.0
_SETTLE_INTERVAL_SECONDS = 0.05
_PAUSE_SECONDS = 0.25
_MAX_PENDING = 20_000
_MAX_SEEN = 10_000
_CALLS_AT_ONCE = 500
# A cost that could not be settled for so long is in the database, or comes with it: settled as well, it might count
# twice.
_SETTLE_WITHIN_SECONDS = 1.0

_NAMES = {script: script_name(script) for script in (ADMIT, SETTLE, JOIN, HEARTBEAT, REPAIR)}
_KINDS = {
    "b": "spend of a budget",
    "h": "holds of a budget",
    "w": "window of a limit",
    "p": "parallel calls of a limit",
}

_encode = msgspec.json.Encoder().encode

_Command = tuple[str, dict[str, Any]]


class RedisCounters:
    """The counters of every process that uses this Redis. `redis` is the cache's client, with short time limits."""

    def __init__(self, redis: Redis, namespace: str) -> None:
        self._redis = redis
        self._prefix = f"{PREFIX}{namespace}:"
        self._process_id = uuid.uuid4().hex
        self._previous_ids: list[str] = []
        # Which figures this process counts in; "" until it has joined them. `former`: those that were lost.
        self._generation = self._previous_generation = ""
        self._beat = 0
        self._is_lost = False
        self._joining = asyncio.Lock()
        # The calls of this process, and the USD that they hold of each budget.
        self._running: dict[str, Hold] = {}
        self._held: dict[str, Decimal] = {}
        self._seen: dict[str, Decimal] = {}
        # When each was settled, and the arguments of SETTLE.
        self._pending: deque[tuple[float, dict[str, Any]]] = deque(maxlen=_MAX_PENDING)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run_forever(), name="counters in Redis")

    async def stop(self) -> None:
        if self._task is not None:
            await ended(self._task)
        try:
            await self._settle_pending()
            await self._redis.delete(f"{self._prefix}proc:{self._process_id}")
        except CacheAway as problem:
            log.warning("redis counters not settled", reason=str(problem))
        except (RedisError, OSError, TimeoutError) as problem:
            log.warning("redis counters not settled", reason=type(problem).__name__)

    async def ping(self) -> None:
        try:
            await self._redis.ping()
        except (RedisError, OSError, TimeoutError) as problem:
            raise CacheAway(type(problem).__name__) from problem
        self._is_lost = False
        await self._join()

    # ---- one call --------------------------------------------------------------------------------------------------

    async def admit(self, claim: Claim) -> Hold | Refusal:
        if self._is_lost:
            raise CountersLost("restarted")
        if not self._generation:
            await self._join()
        # What is only counted needs no counting together: its ceiling, should it get one, starts from the database.
        budgets = [budget for budget in claim.budgets if budget.ceiling is not None]
        call_id, generation = uuid.uuid4().hex, self._generation
        try:
            answer = await self._answer(call_id, claim, budgets)
        except CacheAway as problem:
            raise self.in_doubt(claim, call_id, str(problem)) from problem
        except asyncio.CancelledError:
            # It may have been counted, or may be yet: give back what was held, or will be.
            self._settle_later(call_id, claim, _ZERO, 0, is_in_doubt=True)
            raise
        verdict, first, second, third = (str(part) for part in answer)
        if verdict == "ok":
            hold = self._hold(call_id, claim, budgets, float(first), second, third)
            self._running[call_id] = hold
            self._track(claim, claim.amount)
            return hold
        if verdict == "lost":
            self._mark_lost(generation)
            raise CountersLost("restarted")
        index = int(first)
        if verdict == "budget":
            return Refusal("budget", claim.budgets.index(budgets[index]), Decimal(second) / _NANO)
        return Refusal(verdict, index, Decimal(second), max(1, int(third)))

    def in_doubt(self, claim: Claim, call_id: str = "", reason: str = "not asked") -> CountersInDoubt:
        """For a call that others are to admit. Without an id it was never counted here; its end is all the same."""
        hold = Hold(self, claim, 0.0, call_id=call_id or uuid.uuid4().hex)
        return CountersInDoubt(reason, hold, self._local_view(claim))

    async def _answer(self, call_id: str, claim: Claim, budgets: Sequence[BudgetCounter]) -> Any:
        """What ADMIT says; a counter that makes it fail is repaired, once. Raises CacheAway."""
        admission = self._admission(call_id, claim, budgets)
        answer = await self._settle_pending((ADMIT, admission))
        if isinstance(answer, ResponseError):
            await self._repair(claim)
            answer = await self._settle_pending((ADMIT, admission))
        if isinstance(answer, Exception):
            raise CacheAway(type(answer).__name__) from answer
        return answer

    def _admission(self, call_id: str, claim: Claim, budgets: Sequence[BudgetCounter]) -> dict[str, Any]:
        return {
            "p": self._prefix,
            "pid": self._process_id,
            "generation": self._generation,
            "call": call_id,
            "amount": str(nano(claim.amount)),
            "tokens": claim.tokens,
            "accounts": [
                (budget.name, str(nano(budget.ceiling or _ZERO)), str(nano(budget.seed))) for budget in budgets
            ],
            "limits": [
                (limit.name, *(-1 if part is None else part for part in (limit.rpm, limit.tpm, limit.parallel)))
                for limit in claim.limits
            ],
        }

    def _hold(
        self, call_id: str, claim: Claim, budgets: Sequence[BudgetCounter], second: float, spends: str, used: str
    ) -> Hold:
        figures = [int(part) for part in used.split(",")] if used else []
        known: dict[str, Decimal] = {}
        for budget, spend in zip(budgets, spends.split(","), strict=False):
            known[budget.name] = Decimal(spend) / _NANO
        if len(self._seen) >= _MAX_SEEN:
            self._seen.clear()
        self._seen.update(known)
        return Hold(
            self,
            claim,
            second,
            [known.get(budget.name, budget.seed) for budget in claim.budgets],
            list(zip(figures[::2], figures[1::2], strict=True)),
            call_id=call_id,
        )

    def _local_view(self, claim: Claim) -> Claim:
        """The claim for counters that know less: with the spend that was last seen here, and below each ceiling what
        calls of this process hold here."""
        budgets = []
        for budget in claim.budgets:
            if budget.ceiling is not None:
                seed = max(budget.seed, self._seen.get(budget.name, budget.seed))
                budget = replace(budget, seed=seed, ceiling=budget.ceiling - self._held.get(budget.name, _ZERO))
            budgets.append(budget)
        return replace(claim, budgets=budgets)

    def _track(self, claim: Claim, amount: Decimal, cost: Decimal = _ZERO) -> None:
        """Add USD to what this process holds and has seen spent; less than nothing gives it back."""
        for budget in claim.budgets:
            if budget.ceiling is not None:
                name = budget.name
                held = self._held.get(name, _ZERO) + amount
                if held:
                    self._held[name] = held
                else:
                    self._held.pop(name, None)
                if cost and name in self._seen:
                    self._seen[name] += cost

    def settle(self, hold: Hold, cost: Decimal, tokens: int) -> None:
        """Queue it: the next admission of this process, or the next round, sends it."""
        is_in_doubt = self._running.pop(hold.call_id, None) is None
        if not is_in_doubt:
            self._track(hold.claim, -hold.claim.amount, cost)
        self._settle_later(hold.call_id, hold.claim, cost, tokens - hold.claim.tokens, is_in_doubt=is_in_doubt)

    def _settle_later(
        self, call_id: str, claim: Claim, cost: Decimal, more_tokens: int, *, is_in_doubt: bool = False
    ) -> None:
        settled = {
            "p": self._prefix,
            **_counted(call_id, claim),
            "cost": str(nano(cost)),
            "tokens": more_tokens,
            "in_doubt": is_in_doubt,
        }
        self._pending.append((time.monotonic(), settled))

    # ---- commands --------------------------------------------------------------------------------------------------

    async def _settle_pending(self, command: _Command | None = None) -> Any:
        """Settle what is queued and then run one more command, in one round trip. What could not be sent stays queued.

        Answers what Redis says to `command`, which may be an error. Raises CacheAway. A settlement works once per call
        id, so sending it twice does no harm.
        """
        waiting = list(self._pending)
        self._pending.clear()
        if not waiting and command is None:
            return None
        settles_since = time.monotonic() - _SETTLE_WITHIN_SECONDS
        commands: list[_Command] = [
            (SETTLE, settled if at >= settles_since else {**settled, "cost": "0"}) for at, settled in waiting
        ]
        try:
            answers = await self._run(commands if command is None else [*commands, command])
        except (CacheAway, asyncio.CancelledError):
            self._pending.extendleft(reversed(waiting))
            raise
        failed = [
            settlement for settlement, answer in zip(waiting, answers, strict=False) if isinstance(answer, Exception)
        ]
        self._pending.extendleft(reversed(failed))
        _log_reset(kind for answer in answers[: len(waiting)] if isinstance(answer, list) for kind in answer)
        if failed and command is None:
            raise CacheAway("settlements were refused")
        return answers[-1]

    async def _run(self, commands: Sequence[_Command]) -> list[Any]:
        """The answers of some scripts, in one round trip; an error is an answer too. Raises CacheAway."""
        try:
            answers = await self._pipe(commands)
            # A Redis that was restarted has no scripts: bring them, and do again what it could not.
            missing = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if missing:
                for script in _NAMES:
                    await self._redis.script_load(script)
                again = await self._pipe([commands[index] for index in missing])
                for index, answer in zip(missing, again, strict=True):
                    answers[index] = answer
        except (RedisError, OSError, TimeoutError) as problem:
            raise CacheAway(type(problem).__name__) from problem
        return answers

    async def _pipe(self, commands: Sequence[_Command]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for script, arguments in commands:
                pipe.evalsha(_NAMES[script], 0, _encode(arguments))
            return list(await pipe.execute(raise_on_error=False))

    async def _ask(self, script: str, **arguments: Any) -> Any:
        """The answer of one script. Raises CacheAway, also for an error, after a repair for the next time."""
        (answer,) = await self._run([(script, {"p": self._prefix, "pid": self._process_id, **arguments})])
        if isinstance(answer, ResponseError) and script != REPAIR:
            await self._repair(Claim())
        if isinstance(answer, Exception):
            raise CacheAway(type(answer).__name__) from answer
        return answer

    # ---- the state of Redis ----------------------------------------------------------------------------------------

    def _mark_lost(self, generation: str) -> None:
        """These figures are gone. The first call that notices logs it."""
        if generation == self._generation:
            log.warning("redis counters lost", reason="Redis was restarted or emptied")
            self._generation, self._previous_generation, self._is_lost = "", generation, True

    async def _join(self) -> None:
        """Count what runs here in figures that do not know it, under a new name, so that nothing counts twice."""
        async with self._joining:
            if self._generation:
                return
            self._previous_ids.append(self._process_id)
            self._process_id = uuid.uuid4().hex
            calls = [_counted(hold.call_id, hold.claim) for hold in self._running.values()]
            fresh = uuid.uuid4().hex
            for start in range(0, max(1, len(calls)), _CALLS_AT_ONCE):
                generation = await self._ask(
                    JOIN,
                    former=self._previous_ids,
                    calls=calls[start : start + _CALLS_AT_ONCE],
                    generation=fresh,
                    replaces=self._previous_generation,
                )
            self._generation, self._beat = str(generation), 0
            self._previous_ids.clear()

    async def _repair(self, claim: Claim) -> None:
        """Start those counters of a call anew that are not what they should be. Raises CacheAway."""
        counters: list[tuple[str, ...]] = [("generation",), ("beat",)]
        for budget in claim.budgets:
            counters += [("b", budget.name), ("h", budget.name, str(nano(self._held.get(budget.name, _ZERO))))]
        for limit in claim.limits:
            running = sum(
                held.name == limit.name and held.parallel is not None
                for hold in self._running.values()
                for held in hold.claim.limits
            )
            counters += [("w", limit.name), ("p", limit.name, str(running))]
        _log_reset(await self._ask(REPAIR, counters=counters))

    async def _run_forever(self) -> None:
        """Send heartbeats, which show whether Redis was restarted, and settle what no admission took along."""
        heartbeat_at = 0.0
        while True:
            try:
                if not self._generation:
                    await self._join()
                if time.monotonic() - heartbeat_at >= _HEARTBEAT_SECONDS:
                    await self._heartbeat()
                    heartbeat_at = time.monotonic()
                await self._settle_pending()
            except CacheAway:
                await asyncio.sleep(_PAUSE_SECONDS)
            except Exception as problem:  # noqa: BLE001 - a bug of ours must not end the heartbeats
                log.error("redis counters not settled", reason=type(problem).__name__)
                await asyncio.sleep(_PAUSE_SECONDS)
            await asyncio.sleep(_SETTLE_INTERVAL_SECONDS)

    async def _heartbeat(self) -> None:
        expected = self._generation
        generation, beat = await self._ask(HEARTBEAT)
        if generation != expected or int(beat) <= self._beat:
            self._mark_lost(expected)
        else:
            self._beat = int(beat)


def _counted(call_id: str, claim: Claim) -> dict[str, Any]:
    """Where one call is counted, as arguments of the scripts."""
    return {
        "call": call_id,
        "amount": str(nano(claim.amount)),
        "accounts": [budget.name for budget in claim.budgets if budget.ceiling is not None],
        "limits": [(limit.name, -1 if limit.parallel is None else limit.parallel) for limit in claim.limits],
    }


def _log_reset(kinds: Iterable[str]) -> None:
    names = sorted({_KINDS.get(kind, kind) for kind in kinds})
    if names:
        log.warning("redis counters reset", kinds=names)


def nano(amount: Decimal) -> int:
    """USD in whole billionths, rounded up."""
    return int((amount * _NANO).to_integral_value(ROUND_CEILING))
