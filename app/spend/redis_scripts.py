"""The scripts of the counters in Redis (redis_counters.py has the names of their keys). Each takes one JSON object.

A script that fails has not undone what it did before: they read everything, and find what is wrong with it, before
they write anything.
"""

from __future__ import annotations

from hashlib import sha1

# One call against all of its budgets and limits. Answers {verdict, …} and has counted the call if that is "ok".
ADMIT = """
local d = cjson.decode(ARGV[1])
if redis.call('GET', d.p .. 'generation') ~= d.generation then return {'lost', '0', '0', '1'} end
if redis.call('EXISTS', d.p .. 'v:' .. d.call) == 1 then return {'given up', '0', '0', '1'} end
local now = tonumber(redis.call('TIME')[1])
local function whole(total)
  if total % 1 ~= 0 then error('not a whole number') end
  return total
end
local function held(key)
  local total, all = 0, redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    if all[i] == d.pid or redis.call('EXISTS', d.p .. 'proc:' .. all[i]) == 1 then
      total = total + tonumber(all[i + 1])
    else
      redis.call('HDEL', key, all[i])
    end
  end
  return whole(total)
end
local spends = {}
for i, a in ipairs(d.accounts) do
  local key = d.p .. 'b:' .. a[1]
  local spend, seed = whole(tonumber(redis.call('GET', key) or '-1')), tonumber(a[3])
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
  if l[2] >= 0 and whole(requests) >= l[2] then
    return {'requests', tostring(i - 1), tostring(requests), wait}
  end
  if l[3] >= 0 and whole(tokens) + d.tokens > l[3] then
    return {'tokens', tostring(i - 1), tostring(tokens), wait}
  end
  if l[4] >= 0 and held(d.p .. 'p:' .. l[1]) >= l[4] then
    return {'max_parallel_requests', tostring(i - 1), '0', '1'}
  end
  used[#used + 1] = tostring(requests + 1)
  used[#used + 1] = tostring(tokens + d.tokens)
end
redis.call('SET', d.p .. 'proc:' .. d.pid, 1, 'EX', 15)
redis.call('SET', d.p .. 'c:' .. d.call, now .. ':' .. d.pid, 'EX', 86400)
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

# The end of one call, once per call id. Of a call that was not counted, only `in_doubt` ones cost something: those may
# run all the same, and must not be counted any more. Answers the kinds of the counters that were broken and are gone.
SETTLE = """
local d = cjson.decode(ARGV[1])
local mark, broken = d.p .. 'v:' .. d.call, {}
if d.in_doubt and not redis.call('SET', mark, 1, 'NX', 'EX', 60) then return broken end
local counted = redis.call('GETDEL', d.p .. 'c:' .. d.call)
if not counted and not d.in_doubt then
  redis.call('SET', mark, 1, 'EX', 60)
  return broken
end
local now = tonumber(redis.call('TIME')[1])
local function try(command, kind, name, ...)
  local answer = redis.pcall(command, d.p .. kind .. ':' .. name, ...)
  if type(answer) == 'table' and answer.err then
    redis.call('DEL', d.p .. kind .. ':' .. name)
    broken[#broken + 1] = kind
    return false
  end
  return answer
end
for _, name in ipairs(d.accounts) do
  if d.cost ~= '0' and try('INCRBY', 'b', name, d.cost) then
    redis.call('EXPIRE', d.p .. 'b:' .. name, 172800)
  end
end
local second, pid = string.match(counted or '', '^(%d+):(.*)$')
if not pid then return broken end
local function give_back(kind, name, amount)
  local left = (tonumber(try('HGET', kind, name, pid) or '0') or 0) - tonumber(amount)
  if left > 0 then try('HINCRBY', kind, name, pid, '-' .. amount) else try('HDEL', kind, name, pid) end
end
for _, name in ipairs(d.accounts) do
  if d.amount ~= '0' then give_back('h', name, d.amount) end
end
for _, l in ipairs(d.limits) do
  if d.tokens ~= 0 and tonumber(second) >= now - 60 then
    try('HINCRBY', 'w', l[1], 't' .. second, d.tokens)
  end
  if l[2] >= 0 then give_back('p', l[1], '1') end
end
return broken
"""

# A process reports what runs in it, under a new name; what it held under `former` names is void, also what may arrive
# late. Windows start afresh. Answers the generation that it counts in: a new one when there is none, or none but the
# one that it `replaces`.
JOIN = """
local d = cjson.decode(ARGV[1])
if redis.call('EXISTS', d.p .. 'v:' .. d.pid) == 0 then
  for _, pid in ipairs(d.former) do
    redis.call('SET', d.p .. 'v:' .. pid, 1, 'EX', 86400)
    redis.call('DEL', d.p .. 'proc:' .. pid)
  end
  redis.call('SET', d.p .. 'proc:' .. d.pid, 1, 'EX', 15)
  for _, c in ipairs(d.calls) do
    if redis.call('EXISTS', d.p .. 'v:' .. c.call) == 0 then
      redis.call('SET', d.p .. 'c:' .. c.call, '0:' .. d.pid, 'EX', 86400)
      for _, name in ipairs(c.accounts) do
        redis.call('HINCRBY', d.p .. 'h:' .. name, d.pid, c.amount)
        redis.call('EXPIRE', d.p .. 'h:' .. name, 172800)
      end
      for _, l in ipairs(c.limits) do
        if l[2] >= 0 then
          redis.call('HINCRBY', d.p .. 'p:' .. l[1], d.pid, 1)
          redis.call('EXPIRE', d.p .. 'p:' .. l[1], 172800)
        end
      end
    end
  end
  local generation = redis.call('GET', d.p .. 'generation')
  if not generation or generation == d.replaces then redis.call('SET', d.p .. 'generation', d.generation) end
end
return redis.call('GET', d.p .. 'generation')
"""

# A process is alive. `beat` only ever grows, unless Redis went back to an older state of itself.
HEARTBEAT = """
local d = cjson.decode(ARGV[1])
redis.call('SET', d.p .. 'proc:' .. d.pid, 1, 'EX', 15)
return {redis.call('GET', d.p .. 'generation') or '', redis.call('INCR', d.p .. 'beat')}
"""

# Delete those of some counters that are not what they should be, and hold again what this process held there.
# Answers their kinds.
REPAIR = """
local d = cjson.decode(ARGV[1])
local broken = {}
local function is_whole(text)
  local number = tonumber(text)
  return number and number % 1 == 0
end
local function is_good(kind, key)
  local stored = redis.call('TYPE', key).ok
  if stored == 'none' then return true end
  if kind == 'generation' then return stored == 'string' end
  if kind == 'b' or kind == 'beat' then return stored == 'string' and is_whole(redis.call('GET', key)) end
  if stored ~= 'hash' then return false end
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    if not is_whole(all[i + 1]) or (kind == 'w' and not string.match(all[i], '^[rt]%d+$')) then return false end
  end
  return true
end
for _, k in ipairs(d.counters) do
  local kind, key = k[1], d.p .. k[1] .. (k[2] and ':' .. k[2] or '')
  if not is_good(kind, key) then
    redis.call('DEL', key)
    broken[#broken + 1] = kind
    if k[3] and k[3] ~= '0' then
      redis.call('HINCRBY', key, d.pid, k[3])
      redis.call('EXPIRE', key, 172800)
    end
  end
end
return broken
"""


def script_name(script: str) -> str:
    """The name of a script in Redis, its SHA-1; no security depends on it."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()
