"""Counters in Redis: one script admits a call against all of its budgets and limits.

Money is counted in whole billionths of a USD, which Redis adds exactly; the ledger keeps the exact cost. A limit's
window is kept in seconds, and the oldest, partly passed second counts whole: never more than the limit in any minute.
What running calls hold is kept per process, and what a process that stopped breathing held does not count.

    <prefix>b:<account>   spend                       <prefix>h:<account>  process -> held
    <prefix>w:<limit>     r<second>, t<second>        <prefix>p:<limit>    process -> running calls
    <prefix>proc:<process>  alive for a few seconds   <prefix>c:<call>     admitted and not settled: second:process
    <prefix>generation    of these figures            <prefix>v:<call>     ended, and v:<process> gone: what of
    <prefix>beat          grows with every breath                            it comes late does not count

Three things go wrong with a Redis that answers. It has restarted, empty or as it was a while ago: the generation is
another one or the beat is behind; each process then tells it what runs there, and it counts again when the database
knows what was spent (`CountersLost`). Or an answer is late, and whether it was counted is unknown: whoever admits the
call instead settles it here too, under its id (`CountersUnsure`). Or a counter is not what it should be: it is deleted
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
from .counter_faults import CountersLost, CountersUnsure
from .counters import BudgetCounter, Claim, Hold, Refusal
from .redis_scripts import ADMIT, BREATHE, JOIN, MEND, SETTLE, script_name

log = structlog.get_logger(__name__)

PREFIX = "quarterdeck:count:"
_NANO = 10**9
_ZERO = Decimal(0)
# Also how long it may take until a process notices that Redis is not what it was.
_BREATH_SECONDS = 2.0
_DRAIN_SECONDS = 0.05
_PAUSE_SECONDS = 0.25
_MAX_PENDING = 20_000
_MAX_SEEN = 10_000
_CALLS_AT_ONCE = 500
# A cost that could not be told for so long is in the database, or comes with it: told as well, it might count twice.
_TOLD_WITHIN_SECONDS = 1.0

_NAMES = {script: script_name(script) for script in (ADMIT, SETTLE, JOIN, BREATHE, MEND)}
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
        self._former_ids: list[str] = []
        # Which figures this process counts in; "" until it has joined them. `former`: those that were lost.
        self._generation = self._former_generation = ""
        self._beat = 0
        self._is_lost = False
        self._joining = asyncio.Lock()
        # The calls of this process, and the USD that they hold of each account.
        self._running: dict[str, Hold] = {}
        self._held: dict[str, Decimal] = {}
        self._seen: dict[str, Decimal] = {}
        # When each was settled, and what SETTLE is told.
        self._pending: deque[tuple[float, dict[str, Any]]] = deque(maxlen=_MAX_PENDING)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._breathe(), name="counters in Redis")

    async def stop(self) -> None:
        if self._task is not None:
            await ended(self._task)
        try:
            await self._settle_pending()
            await self._redis.delete(f"{self._prefix}proc:{self._process_id}")
        except CacheAway as problem:
            log.warning("counters in Redis were not settled", reason=str(problem))
        except (RedisError, OSError, TimeoutError) as problem:
            log.warning("counters in Redis were not settled", reason=type(problem).__name__)

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
        accounts = [account for account in claim.accounts if account.ceiling is not None]
        call_id, generation = uuid.uuid4().hex, self._generation
        try:
            answer = await self._answer(call_id, claim, accounts)
        except CacheAway as problem:
            raise self.unsure(claim, call_id, str(problem)) from problem
        except asyncio.CancelledError:
            # It may have been counted, or may be yet: give back what was held, or will be.
            self._settle_later(call_id, claim, _ZERO, 0, is_unsure=True)
            raise
        verdict, first, second, third = (str(part) for part in answer)
        if verdict == "ok":
            hold = self._hold(call_id, claim, accounts, float(first), second, third)
            self._running[call_id] = hold
            self._note(claim, claim.amount)
            return hold
        if verdict == "lost":
            self._lose(generation)
            raise CountersLost("restarted")
        index = int(first)
        if verdict == "budget":
            return Refusal("budget", claim.accounts.index(accounts[index]), Decimal(second) / _NANO)
        return Refusal(verdict, index, Decimal(second), max(1, int(third)))

    def unsure(self, claim: Claim, call_id: str = "", reason: str = "not asked") -> CountersUnsure:
        """For a call that others are to admit. Without an id it was never told here; its end is all the same."""
        hold = Hold(self, claim, 0.0, call_id=call_id or uuid.uuid4().hex)
        return CountersUnsure(reason, hold, self._seen_from_here(claim))

    async def _answer(self, call_id: str, claim: Claim, accounts: Sequence[BudgetCounter]) -> Any:
        """What ADMIT says; a counter that is in its way is mended, once. Raises CacheAway."""
        admission = self._written(call_id, claim, accounts)
        answer = await self._settle_pending((ADMIT, admission))
        if isinstance(answer, ResponseError):
            await self._mend(claim)
            answer = await self._settle_pending((ADMIT, admission))
        if isinstance(answer, Exception):
            raise CacheAway(type(answer).__name__) from answer
        return answer

    def _written(self, call_id: str, claim: Claim, accounts: Sequence[BudgetCounter]) -> dict[str, Any]:
        return {
            "p": self._prefix,
            "pid": self._process_id,
            "generation": self._generation,
            "call": call_id,
            "amount": str(nano(claim.amount)),
            "tokens": claim.tokens,
            "accounts": [
                (account.name, str(nano(account.ceiling or _ZERO)), str(nano(account.seed))) for account in accounts
            ],
            "limits": [
                (limit.name, *(-1 if part is None else part for part in (limit.rpm, limit.tpm, limit.parallel)))
                for limit in claim.limits
            ],
        }

    def _hold(
        self, call_id: str, claim: Claim, accounts: Sequence[BudgetCounter], second: float, spends: str, used: str
    ) -> Hold:
        figures = [int(part) for part in used.split(",")] if used else []
        known: dict[str, Decimal] = {}
        for account, spend in zip(accounts, spends.split(","), strict=False):
            known[account.name] = Decimal(spend) / _NANO
        if len(self._seen) >= _MAX_SEEN:
            self._seen.clear()
        self._seen.update(known)
        return Hold(
            self,
            claim,
            second,
            [known.get(one.name, one.seed) for one in claim.accounts],
            list(zip(figures[::2], figures[1::2], strict=True)),
            call_id=call_id,
        )

    def _seen_from_here(self, claim: Claim) -> Claim:
        """The claim for counters that know less: with the spend that was last seen here, and below each ceiling what
        calls of this process hold here."""
        accounts = []
        for account in claim.accounts:
            if account.ceiling is not None:
                seed = max(account.seed, self._seen.get(account.name, account.seed))
                account = replace(account, seed=seed, ceiling=account.ceiling - self._held.get(account.name, _ZERO))
            accounts.append(account)
        return replace(claim, accounts=accounts)

    def _note(self, claim: Claim, amount: Decimal, cost: Decimal = _ZERO) -> None:
        """Add USD to what this process holds and has seen spent; less than nothing gives it back."""
        for account in claim.accounts:
            if account.ceiling is not None:
                name = account.name
                left = self._held.get(name, _ZERO) + amount
                if left:
                    self._held[name] = left
                else:
                    self._held.pop(name, None)
                if cost and name in self._seen:
                    self._seen[name] += cost

    def settle(self, hold: Hold, cost: Decimal, tokens: int) -> None:
        """Wait for company: the next admission of this process, or the next round, sends it."""
        is_unsure = self._running.pop(hold.call_id, None) is None
        if not is_unsure:
            self._note(hold.claim, -hold.claim.amount, cost)
        self._settle_later(hold.call_id, hold.claim, cost, tokens - hold.claim.tokens, is_unsure=is_unsure)

    def _settle_later(
        self, call_id: str, claim: Claim, cost: Decimal, more_tokens: int, *, is_unsure: bool = False
    ) -> None:
        settled = {
            "p": self._prefix,
            **_counted(call_id, claim),
            "cost": str(nano(cost)),
            "tokens": more_tokens,
            "unsure": is_unsure,
        }
        self._pending.append((time.monotonic(), settled))

    # ---- commands --------------------------------------------------------------------------------------------------

    async def _settle_pending(self, command: _Command | None = None) -> Any:
        """Settle what waits and then do one more thing, in one round trip. What could not be sent stays for the next.

        Answers what Redis says to `command`, which may be an error. Raises CacheAway. A settlement works once per call
        id, so sending it twice does no harm.
        """
        waiting = list(self._pending)
        self._pending.clear()
        if not waiting and command is None:
            return None
        told_since = time.monotonic() - _TOLD_WITHIN_SECONDS
        commands: list[_Command] = [
            (SETTLE, settled if at >= told_since else {**settled, "cost": "0"}) for at, settled in waiting
        ]
        try:
            answers = await self._run(commands if command is None else [*commands, command])
        except (CacheAway, asyncio.CancelledError):
            self._pending.extendleft(reversed(waiting))
            raise
        failed = [one for one, answer in zip(waiting, answers, strict=False) if isinstance(answer, Exception)]
        self._pending.extendleft(reversed(failed))
        _tell_of_broken(kind for answer in answers[: len(waiting)] if isinstance(answer, list) for kind in answer)
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
            for script, told in commands:
                pipe.evalsha(_NAMES[script], 0, _encode(told))
            return list(await pipe.execute(raise_on_error=False))

    async def _ask(self, script: str, **told: Any) -> Any:
        """The answer of one script. Raises CacheAway, also for an error, with better hopes for the next time."""
        (answer,) = await self._run([(script, {"p": self._prefix, "pid": self._process_id, **told})])
        if isinstance(answer, ResponseError) and script != MEND:
            await self._mend(Claim())
        if isinstance(answer, Exception):
            raise CacheAway(type(answer).__name__) from answer
        return answer

    # ---- the state of Redis ----------------------------------------------------------------------------------------

    def _lose(self, generation: str) -> None:
        """These figures are gone. The first who notices says so."""
        if generation == self._generation:
            log.warning("counters in Redis are not those of before: it was restarted or emptied")
            self._generation, self._former_generation, self._is_lost = "", generation, True

    async def _join(self) -> None:
        """Count what runs here in figures that do not know it, under a new name, so that nothing counts twice."""
        async with self._joining:
            if self._generation:
                return
            self._former_ids.append(self._process_id)
            self._process_id = uuid.uuid4().hex
            calls = [_counted(hold.call_id, hold.claim) for hold in self._running.values()]
            fresh = uuid.uuid4().hex
            for start in range(0, max(1, len(calls)), _CALLS_AT_ONCE):
                generation = await self._ask(
                    JOIN,
                    former=self._former_ids,
                    calls=calls[start : start + _CALLS_AT_ONCE],
                    generation=fresh,
                    replaces=self._former_generation,
                )
            self._generation, self._beat = str(generation), 0
            self._former_ids.clear()

    async def _mend(self, claim: Claim) -> None:
        """Start those counters of a call anew that are not what they should be. Raises CacheAway."""
        counters: list[tuple[str, ...]] = [("generation",), ("beat",)]
        for account in claim.accounts:
            counters += [("b", account.name), ("h", account.name, str(nano(self._held.get(account.name, _ZERO))))]
        for limit in claim.limits:
            running = sum(
                one.name == limit.name and one.parallel is not None
                for hold in self._running.values()
                for one in hold.claim.limits
            )
            counters += [("w", limit.name), ("p", limit.name, str(running))]
        _tell_of_broken(await self._ask(MEND, counters=counters))

    async def _breathe(self) -> None:
        """Say that this process lives, look whether Redis is the same, and settle what no admission took along."""
        breathed_at = 0.0
        while True:
            try:
                if not self._generation:
                    await self._join()
                if time.monotonic() - breathed_at >= _BREATH_SECONDS:
                    await self._breathe_once()
                    breathed_at = time.monotonic()
                await self._settle_pending()
            except CacheAway:
                await asyncio.sleep(_PAUSE_SECONDS)
            except Exception as problem:  # noqa: BLE001 - a bug of ours must not let this process pass for dead
                log.error("counters in Redis were not settled", reason=type(problem).__name__)
                await asyncio.sleep(_PAUSE_SECONDS)
            await asyncio.sleep(_DRAIN_SECONDS)

    async def _breathe_once(self) -> None:
        expected = self._generation
        generation, beat = await self._ask(BREATHE)
        if generation != expected or int(beat) <= self._beat:
            self._lose(expected)
        else:
            self._beat = int(beat)


def _counted(call_id: str, claim: Claim) -> dict[str, Any]:
    """Where one call is counted, in the words of the scripts."""
    return {
        "call": call_id,
        "amount": str(nano(claim.amount)),
        "accounts": [account.name for account in claim.accounts if account.ceiling is not None],
        "limits": [(limit.name, -1 if limit.parallel is None else limit.parallel) for limit in claim.limits],
    }


def _tell_of_broken(kinds: Iterable[str]) -> None:
    names = sorted({_KINDS.get(kind, kind) for kind in kinds})
    if names:
        log.warning("counters in Redis were broken and start anew", kinds=names)


def nano(amount: Decimal) -> int:
    """USD in whole billionths, rounded up."""
    return int((amount * _NANO).to_integral_value(ROUND_CEILING))
