-- lock: what belongs to one lock, the time, and making a token the owner. It comes first in every script but those that
-- only read; the other parts stand where they are needed, for every function costs time also where it is not used.
--
-- KEYS     1 held locks of the bucket, a hash: name -> mark, token, end in ms, fence, since in us, holder; the mark says
--          whether somebody may wait (+) or nobody does (-)   2 last fence of the bucket   3 queue of the lock: tokens
-- ARGV     1 name of the lock   2 token; its first 16 characters name the flow
local held_key, fence_key, queue_key = KEYS[1], KEYS[2], KEYS[3]
local name, token = ARGV[1], ARGV[2]
local call = redis.call

local time = call('TIME')
local now = time[1] .. string.sub('00000' .. time[2], -6)
local now_ms = string.sub(now, 1, -4) + 0

-- Grows although the store was flushed or restored (the time), and although the clock was set back (the last).
local function next_fence()
  local last = call('SET', fence_key, now, 'GET')
  if not last or last + 0 < now + 0 then
    return now
  end
  local fence = string.format('%.0f', last + 1)
  call('SET', fence_key, fence)
  return fence
end

-- Notes who holds the lock, and lets the bucket live as long.
local function hold(mark, owner, ttl, fence, since, holder)
  call('HSET', held_key, name, mark .. owner .. ' ' .. now_ms + ttl .. ' ' .. fence .. ' ' .. since .. ' ' .. holder)
  if call('PTTL', held_key) < ttl + 0 then
    call('PEXPIRE', held_key, ttl)
  end
end
