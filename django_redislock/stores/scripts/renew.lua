-- renew: keep the key for another ttl if the token holds it; what has ended is never brought back.
--
-- KEYS     1 lock   2 held index   3 note that the token has it no more
-- ARGV     1 token   2 ttl in ms
-- returns  1 renewed   0 nobody holds the key   -1 somebody else does   -2 it was taken away by force
local lock_key, held_key, note_key = KEYS[1], KEYS[2], KEYS[3]
local token, ttl = ARGV[1], tonumber(ARGV[2])

local value = redis.call('GET', lock_key)
if not value or string.sub(value, 1, #token + 1) ~= token .. ' ' then
  if redis.call('GET', note_key) == '-2' then
    return -2
  end
  return value and -1 or 0
end
local time = redis.call('TIME')
redis.call('PEXPIRE', lock_key, ttl)
redis.call('ZADD', held_key, time[1] * 1000 + math.floor(time[2] / 1000) + ttl, lock_key)
if redis.call('PTTL', held_key) < ttl then
  redis.call('PEXPIRE', held_key, ttl)
end
return 1
