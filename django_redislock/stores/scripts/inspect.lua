-- inspect: say who holds the key and how many wait for it. The token stays in the store.
--
-- KEYS     1 held locks of the bucket   2 queue of the lock
-- ARGV     1 name of the lock
-- returns  {'end in ms, fence, since in us, holder', now in us, waiters, first waits since in us}   or   false
local held_key, queue_key = KEYS[1], KEYS[2]
local name = ARGV[1]

local value = redis.call('HGET', held_key, name)
if not value then
  return false
end
local time = redis.call('TIME')
local now = time[1] .. string.sub('00000' .. time[2], -6)
local about, ends = string.match(value, '^%S+ ((%d+) .*)$')
if ends + 0 <= string.sub(now, 1, -4) + 0 then
  return false
end
local first = redis.call('LINDEX', queue_key, 0)
local record = first and redis.call('GET', string.sub(held_key, 1, -#'held' - 1) .. 'waiter:' .. first)
return {about, now, redis.call('LLEN', queue_key), record and string.match(record, '^%d+ %d %S+ (%d+) ') or now}
