-- acquire: take a free key for a token, or say who holds it; the token that holds it already is told so again.
--
-- KEYS     1 lock   2 held index of the bucket   3 fence of the bucket
-- ARGV     1 token   2 ttl in ms   3 holder   4 name of the lock
-- returns  {1, fence}                                               the key is the token's
--          {0, fence, since in us, now in us, ttl left in ms, holder}   somebody else's
local lock_key, held_key, fence_key = KEYS[1], KEYS[2], KEYS[3]
local token, ttl, holder, name = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local value = redis.call('GET', lock_key)
if value then
  local owner, fence, since, who = string.match(value, '^(%S+) (%d+) (%d+) (.*)$')
  if owner == token then
    return {1, tonumber(fence)}
  end
  return {0, tonumber(fence), tonumber(since), now, redis.call('PTTL', lock_key), who}
end

-- Grows although the store was flushed or restored (the time), and although the clock was set back (the last).
local since = string.format('%.0f', now)
local fence, fence_text = now, since
local last = tonumber(redis.call('SET', fence_key, since, 'GET') or 0)
if last >= now then
  fence = last + 1
  fence_text = string.format('%.0f', fence)
  redis.call('SET', fence_key, fence_text)
end
redis.call('SET', lock_key, token .. ' ' .. fence_text .. ' ' .. since .. ' ' .. holder, 'PX', ttl)

-- Entries of holders that vanished go as the index is used; the index itself goes with its last lock. They go after
-- the new one has come: an index that was empty in between would have lost its expiry.
local now_ms = math.floor(now / 1000)
local index_ttl = redis.call('PTTL', held_key)
redis.call('ZADD', held_key, now_ms + ttl, name)
if index_ttl ~= -2 then
  redis.call('ZREMRANGEBYSCORE', held_key, '-inf', now_ms)
end
if index_ttl < tonumber(ttl) then
  redis.call('PEXPIRE', held_key, ttl)
end
return {1, fence}
