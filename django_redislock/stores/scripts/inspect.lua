-- inspect: say who holds the key. The token stays in the store.
--
-- KEYS     1 lock
-- returns  {fence, since in us, now in us, ttl left in ms, holder}   or   false
local lock_key = KEYS[1]

local value = redis.call('GET', lock_key)
if not value then
  return false
end
local time = redis.call('TIME')
local _, fence, since, who = string.match(value, '^(%S+) (%d+) (%d+) (.*)$')
return {tonumber(fence), tonumber(since), time[1] * 1000000 + time[2], redis.call('PTTL', lock_key), who}
