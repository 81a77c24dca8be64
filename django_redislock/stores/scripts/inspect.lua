-- inspect: say who holds the key and how many wait for it. The token stays in the store.
--
-- KEYS     1 lock   2 queue of the lock
-- ARGV     1 what the names of flows begin with
-- returns  {fence, since in us, now in us, ttl left in ms, holder, waiters, first waits since in us}   or   false
local lock_key, queue_key = KEYS[1], KEYS[2]
local root = ARGV[1]

local value = redis.call('GET', lock_key)
if not value then
  return false
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local _, fence, since, who = string.match(value, '^(%S+) (%d+) (%d+) (.*)$')
local first = redis.call('LINDEX', queue_key, 0)
local entry = first and redis.call('GET', root .. ':flow:' .. string.sub(first, 1, 16))
local first_since = entry and tonumber(string.match(entry, '^%S+ %S+ %d+ (%d+) ')) or now
return {tonumber(fence), tonumber(since), now, redis.call('PTTL', lock_key), who,
        redis.call('LLEN', queue_key), first_since}
