-- grant: what several verbs share, put before each of them: making a token the owner, and handing over to the first
-- live waiter.
--
-- KEYS     1 lock   2 held index of the bucket   3 fence of the bucket   4 queue of the lock: tokens in order
--          5 waiters of the lock: token -> channel, ttl in ms, since in us, holder
-- ARGV     1 token (its first 16 characters name the flow)   2 name of the lock   3 what the names of flows begin with:
--          root of all names, in a cluster the beginning of the bucket
local lock_key, held_key, fence_key, queue_key, waiters_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local token, name, root = ARGV[1], ARGV[2], ARGV[3]

local function server_time()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function flow_of(owner)
  return string.sub(owner, 1, 16)
end

local function is_owner(value)
  return value and string.sub(value, 1, #token + 1) == token .. ' '
end

-- Tells how many hear it. The channel of somebody who waits in a cluster is in the slot of the bucket: its name says so.
-- A server that knows no such channels has been subscribed to in the other way.
local function publish(channel, message)
  if string.find(channel, '}:wake:', 1, true) then
    local heard = redis.pcall('SPUBLISH', channel, message)
    if type(heard) == 'number' then
      return heard
    end
  end
  return redis.call('PUBLISH', channel, message)
end

-- Grows although the store was flushed or restored (the time), and although the clock was set back (the last).
local function next_fence(now_text, now)
  local last = tonumber(redis.call('SET', fence_key, now_text, 'GET') or 0)
  if last < now then
    return now_text
  end
  local fence = string.format('%.0f', last + 1)
  redis.call('SET', fence_key, fence)
  return fence
end

-- Notes in the index that the key is held for a ttl from now.
local function note_held(now, ttl)
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
end

local function own(owner, fence, now, ttl, holder)
  redis.call('SET', lock_key, owner .. ' ' .. fence .. ' ' .. string.format('%.0f', now) .. ' ' .. holder, 'PX', ttl)
  note_held(now, ttl)
end

-- Wakes who is first in line if it would look only after the key's end: it looks after half its own ttl, or at the
-- end of whoever held the key when it asked.
local function warn_first(left)
  local first = redis.call('LINDEX', queue_key, 0)
  local entry = first and redis.call('HGET', waiters_key, first)
  if entry then
    local channel, ttl = string.match(entry, '^(%S+) (%d+) ')
    if left < ttl / 2 then
      publish(channel, first)
    end
  end
end

-- Makes the first live waiter the owner and gives its token, or nothing.
local function hand_over()
  local waiter = redis.call('LPOP', queue_key)
  local now = waiter and server_time()
  while waiter do
    local entry = redis.call('HGET', waiters_key, waiter)
    redis.call('HDEL', waiters_key, waiter)
    if entry then
      redis.call('DEL', root .. ':flow:' .. flow_of(waiter))
      local channel, ttl, holder = string.match(entry, '^(%S+) (%d+) %d+ (.*)$')
      local now_text = string.format('%.0f', now)
      local fence = next_fence(now_text, now)
      -- PUBLISH tells how many hear it: nobody means that the process of this waiter is dead. Who asks lives.
      if waiter == token or publish(channel, waiter .. ' ' .. fence .. ' ' .. now_text) > 0 then
        own(waiter, fence, now, ttl, holder)
        warn_first(tonumber(ttl))
        return waiter, fence
      end
    end
    waiter = redis.call('LPOP', queue_key)
  end
end

-- Gives the key up: to the first live waiter, else to whoever comes.
local function free()
  if not hand_over() then
    redis.call('DEL', lock_key)
    redis.call('ZREM', held_key, name)
  end
end
