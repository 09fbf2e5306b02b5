"""Counters in Redis: one script admits a call against all of its budgets and limits.

Money is counted in whole billionths of a USD, which Redis adds exactly; the ledger keeps the exact cost. A limit's
window is kept in seconds, and the oldest, partly passed second counts whole: never more than the limit in any minute.
What running calls hold is kept per process, and what a process that stopped breathing held does not count.

    <prefix>b:<account>   spend                       <prefix>h:<account>  process -> held
    <prefix>w:<limit>     r<second>, t<second>        <prefix>p:<limit>    process -> running calls
    <prefix>proc:<process>  alive for a few seconds   <prefix>c:<call>     admitted and not settled yet
                                                      <prefix>v:<call>     given up before it was admitted
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from decimal import ROUND_CEILING, Decimal
from hashlib import sha1
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from ..cache import CacheAway
from ..tasks import ended
from .counters import Account, Demand, Hold, Refusal

log = structlog.get_logger(__name__)

PREFIX = "quarterdeck:count:"
_NANO = 10**9
_BREATH_SECONDS = 5.0
_ALIVE_SECONDS = 15
_MAX_PENDING = 20_000
_DRAIN_SECONDS = 0.05

_ADMIT = """
local d = cjson.decode(ARGV[1])
if redis.call('DEL', d.p .. 'v:' .. d.call) == 1 then return {'given up', '0', '0', '1'} end
local now = tonumber(redis.call('TIME')[1])
local function held(key)
  local total, all = 0, redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    if all[i] == d.pid or redis.call('EXISTS', d.p .. 'proc:' .. all[i]) == 1 then
      total = total + tonumber(all[i + 1])
    else
      redis.call('HDEL', key, all[i])
    end
  end
  return total
end
local spends = {}
for i, a in ipairs(d.accounts) do
  local key = d.p .. 'b:' .. a[1]
  local spend, seed = tonumber(redis.call('GET', key) or '-1'), tonumber(a[3])
  if seed > spend then
    redis.call('SET', key, a[3])
    spend = seed
  end
  redis.call('EXPIRE', key, 172800)
  spends[i] = string.format('%.0f', spend)
  if a[2] ~= '' and spend + held(d.p .. 'h:' .. a[1]) >= tonumber(a[2]) then
    return {'budget', tostring(i - 1), spends[i], '1'}
  end
end
local used = {}
for i, l in ipairs(d.limits) do
  local key = d.p .. 'w:' .. l[1]
  local requests, tokens, oldest, all = 0, 0, now, redis.call('HGETALL', key)
  for j = 1, #all, 2 do
    local second = tonumber(string.sub(all[j], 2))
    if second < now - 60 then
      redis.call('HDEL', key, all[j])
    elseif string.sub(all[j], 1, 1) == 'r' then
      requests = requests + tonumber(all[j + 1])
      if second < oldest then oldest = second end
    else
      tokens = tokens + tonumber(all[j + 1])
    end
  end
  local wait = tostring(oldest + 61 - now)
  if l[2] >= 0 and requests >= l[2] then
    return {'requests', tostring(i - 1), tostring(requests), wait}
  end
  if l[3] >= 0 and tokens + d.tokens > l[3] then
    return {'tokens', tostring(i - 1), tostring(tokens), wait}
  end
  if l[4] >= 0 and held(d.p .. 'p:' .. l[1]) >= l[4] then
    return {'max_parallel_requests', tostring(i - 1), '0', '1'}
  end
  used[#used + 1] = tostring(requests + 1)
  used[#used + 1] = tostring(tokens + d.tokens)
end
redis.call('SET', d.p .. 'proc:' .. d.pid, 1, 'EX', 15)
redis.call('SET', d.p .. 'c:' .. d.call, 1, 'EX', 86400)
for _, a in ipairs(d.accounts) do
  local key = d.p .. 'h:' .. a[1]
  redis.call('HINCRBY', key, d.pid, d.amount)
  redis.call('EXPIRE', key, 172800)
end
for _, l in ipairs(d.limits) do
  local key = d.p .. 'w:' .. l[1]
  redis.call('HINCRBY', key, 'r' .. now, 1)
  redis.call('HINCRBY', key, 't' .. now, d.tokens)
  redis.call('EXPIRE', key, 120)
  if l[4] >= 0 then
    redis.call('HINCRBY', d.p .. 'p:' .. l[1], d.pid, 1)
    redis.call('EXPIRE', d.p .. 'p:' .. l[1], 172800)
  end
end
return {'ok', tostring(now), table.concat(spends, ','), table.concat(used, ',')}
"""

_SETTLE = """
local d = cjson.decode(ARGV[1])
if redis.call('DEL', d.p .. 'c:' .. d.call) == 0 then
  if d.gives_up then redis.call('SET', d.p .. 'v:' .. d.call, 1, 'EX', 60) end
  return 0
end
local now = tonumber(redis.call('TIME')[1])
local function give_back(key, amount)
  local left = tonumber(redis.call('HGET', key, d.pid) or '0') - tonumber(amount)
  if left <= 0 then redis.call('HDEL', key, d.pid) else redis.call('HINCRBY', key, d.pid, '-' .. amount) end
end
for _, name in ipairs(d.accounts) do
  if d.cost ~= '0' then
    redis.call('INCRBY', d.p .. 'b:' .. name, d.cost)
    redis.call('EXPIRE', d.p .. 'b:' .. name, 172800)
  end
  if d.amount ~= '0' then give_back(d.p .. 'h:' .. name, d.amount) end
end
for _, l in ipairs(d.limits) do
  if d.second >= now - 60 and d.tokens ~= 0 then
    redis.call('HINCRBY', d.p .. 'w:' .. l[1], 't' .. d.second, d.tokens)
  end
  if l[2] >= 0 then give_back(d.p .. 'p:' .. l[1], '1') end
end
return 1
"""

# Redis names scripts so; nothing secret hangs on it.
_ADMIT_SHA = sha1(_ADMIT.encode(), usedforsecurity=False).hexdigest()
_SETTLE_SHA = sha1(_SETTLE.encode(), usedforsecurity=False).hexdigest()


class RedisCounters:
    """The counters of every process that uses this Redis. `redis` is shared with the cache, and short of patience."""

    def __init__(self, redis: Redis, namespace: str) -> None:
        self._redis = redis
        self._prefix = f"{PREFIX}{namespace}:"
        self._process_id = uuid.uuid4().hex
        self._pending: deque[str] = deque(maxlen=_MAX_PENDING)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._breathe(), name="counters in Redis")

    async def stop(self) -> None:
        if self._task is not None:
            await ended(self._task)
        try:
            await self._send(None)
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

    async def admit(self, demand: Demand) -> Hold | Refusal:
        # What is only counted needs no counting together: its ceiling, should it get one, starts from the database.
        accounts = [account for account in demand.accounts if account.ceiling is not None]
        call_id = uuid.uuid4().hex
        try:
            answer = await self._send(self._written(call_id, demand, accounts))
        except (CacheAway, asyncio.CancelledError):
            # It may have been counted before the connection broke, or may be yet: give back what was held, or will be.
            self._settle_later(call_id, demand, Decimal(0), 0, 0, gives_up=True)
            raise
        verdict, first, second, third = (str(part) for part in answer)
        if verdict == "ok":
            return self._hold(call_id, demand, accounts, float(first), second, third)
        index = int(first)
        if verdict == "budget":
            return Refusal("budget", demand.accounts.index(accounts[index]), Decimal(second) / _NANO)
        return Refusal(verdict, index, Decimal(second), max(1, int(third)))

    def _written(self, call_id: str, demand: Demand, accounts: list[Account]) -> str:
        return json.dumps(
            {
                "p": self._prefix,
                "pid": self._process_id,
                "call": call_id,
                "amount": str(nano(demand.amount)),
                "tokens": demand.tokens,
                "accounts": [
                    (account.name, str(nano(account.ceiling or Decimal(0))), str(nano(account.seed)))
                    for account in accounts
                ],
                "limits": [
                    (limit.name, *(-1 if part is None else part for part in (limit.rpm, limit.tpm, limit.parallel)))
                    for limit in demand.limits
                ],
            }
        )

    def _hold(
        self, call_id: str, demand: Demand, accounts: list[Account], second: float, spends: str, used: str
    ) -> Hold:
        known = dict(zip((account.name for account in accounts), spends.split(","), strict=False))
        figures = [int(part) for part in used.split(",")] if used else []
        return Hold(
            self,
            demand,
            second,
            [Decimal(known[one.name]) / _NANO if one.name in known else one.seed for one in demand.accounts],
            list(zip(figures[::2], figures[1::2], strict=True)),
            call_id=call_id,
        )

    def settle(self, hold: Hold, cost: Decimal, tokens: int) -> None:
        """Wait for company: the next admission of this process, or the next round, sends it."""
        self._settle_later(hold.call_id, hold.demand, cost, int(hold.second), tokens - hold.demand.tokens)

    def _settle_later(
        self, call_id: str, demand: Demand, cost: Decimal, second: int, more_tokens: int, *, gives_up: bool = False
    ) -> None:
        settled: dict[str, Any] = {
            "p": self._prefix,
            "pid": self._process_id,
            "call": call_id,
            "cost": str(nano(cost)),
            "amount": str(nano(demand.amount)),
            "accounts": [account.name for account in demand.accounts if account.ceiling is not None],
            "limits": [(limit.name, -1 if limit.parallel is None else limit.parallel) for limit in demand.limits],
            "second": second,
            "tokens": more_tokens,
            "gives_up": gives_up,
        }
        self._pending.append(json.dumps(settled))

    async def _send(self, admission: str | None) -> Any:
        """Settle what waits and then admit, in one round trip. What could not be sent stays for the next one.

        Raises CacheAway. Both scripts do their work once per call id, so sending a settlement twice does no harm.
        """
        waiting = list(self._pending)
        self._pending.clear()
        if not waiting and admission is None:
            return None
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for settled in waiting:
                    pipe.evalsha(_SETTLE_SHA, 0, settled)
                if admission is not None:
                    pipe.evalsha(_ADMIT_SHA, 0, admission)
                answers = await pipe.execute(raise_on_error=False)
            if any(isinstance(answer, NoScriptError) for answer in answers):
                return await self._send_with_scripts(waiting, admission, answers)
        except (RedisError, OSError, TimeoutError) as problem:
            self._pending.extendleft(reversed(waiting))
            raise CacheAway(type(problem).__name__) from problem
        except asyncio.CancelledError:
            self._pending.extendleft(reversed(waiting))
            raise
        return _answered(answers[-1]) if admission is not None else None

    async def _send_with_scripts(self, waiting: list[str], admission: str | None, answers: list[Any]) -> Any:
        """A Redis that was restarted has no scripts: bring them, and do again what it could not."""
        await self._redis.script_load(_SETTLE)
        await self._redis.script_load(_ADMIT)
        for settled, answer in zip(waiting, answers, strict=False):
            if isinstance(answer, NoScriptError):
                await self._redis.evalsha(_SETTLE_SHA, 0, settled)
        if admission is None:
            return None
        if not isinstance(answers[-1], NoScriptError):
            return _answered(answers[-1])
        return await self._redis.evalsha(_ADMIT_SHA, 0, admission)

    async def _breathe(self) -> None:
        """Say that this process lives, and settle what no admission took along."""
        name, breathed_at = f"{self._prefix}proc:{self._process_id}", 0.0
        clock = asyncio.get_running_loop().time
        while True:
            try:
                if clock() - breathed_at >= _BREATH_SECONDS:
                    await self._redis.set(name, 1, ex=_ALIVE_SECONDS)
                    breathed_at = clock()
                await self._send(None)
            except (CacheAway, RedisError, OSError, TimeoutError):
                await asyncio.sleep(1.0)
            except Exception as problem:  # noqa: BLE001 - a bug of ours must not let this process pass for dead
                log.error("counters in Redis were not settled", reason=type(problem).__name__)
                await asyncio.sleep(1.0)
            await asyncio.sleep(_DRAIN_SECONDS)


def _answered(answer: Any) -> Any:
    """The answer of the last command; raises what Redis said instead of one."""
    if isinstance(answer, Exception):
        raise CacheAway(type(answer).__name__) from answer
    return answer


def nano(amount: Decimal) -> int:
    """USD in whole billionths, rounded up."""
    return int((amount * _NANO).to_integral_value(ROUND_CEILING))
