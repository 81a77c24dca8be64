-- own: making a token the owner of a lock, put after parts/lock.lua: where it is needed, since each function costs time
-- also where it is not called.

-- In us, as digits: arithmetic takes them for a number.
local function server_time()
  local time = call('TIME')
  return time[1] .. string.sub('00000' .. time[2], -6)
end

-- Grows although the store was flushed or restored (the time), and although the clock was set back (the last).
local function next_fence(now)
  local last = call('SET', fence_key, now, 'GET')
  if not last or tonumber(last) < tonumber(now) then
    return now
  end
  local fence = string.format('%.0f', last + 1)
  call('SET', fence_key, fence)
  return fence
end

-- Notes in the index that the key is held for a ttl from now. Who knows that there is no index says so.
local function note_held(now, ttl, is_first)
  -- Entries of holders that vanished go as the index is used; the index itself goes with its last lock. They go after
  -- the new one has come: an index that was empty in between would have lost its expiry.
  local now_ms = string.sub(now, 1, -4)
  local index_ttl = is_first and -2 or call('PTTL', held_key)
  call('ZADD', held_key, now_ms + ttl, name)
  if index_ttl ~= -2 then
    call('ZREMRANGEBYSCORE', held_key, '-inf', now_ms)
  end
  if index_ttl < tonumber(ttl) then
    call('PEXPIRE', held_key, ttl)
  end
end

local function own(owner, fence, now, ttl, holder, is_first)
  call('SET', lock_key, owner .. ' ' .. fence .. ' ' .. now .. ' ' .. holder, 'PX', ttl)
  note_held(now, ttl, is_first)
end
