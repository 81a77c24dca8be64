-- queue: standing in line for a lock that somebody holds, put after parts/hand_over.lua.

-- Follows who waits for whom; gives the locks of the cycle with their holders if it ends at this token's flow.
local function cycle(value)
  local root, mine, lock = string.match(bucket, '^(.*{)%d+}:$'), flow_key(token), name
  local edges, channels = {2}, {}
  for _ = 1, 1000 do
    local owner, ends, who = string.match(value, '^.(%S+) (%d+) %d+ %d+ (.*)$')
    if ends + 0 <= now_ms then
      return nil
    end
    edges[#edges + 1] = lock
    edges[#edges + 1] = who
    if flow_key(owner) == mine then
      -- What a dead process waited for closes no cycle: its locks will expire.
      for _, hearers in ipairs(channels) do
        if call('PUBLISH', hearers, '') == 0 then
          return nil
        end
      end
      -- A lease of its own that it does not trust any more is no cycle either: that expires.
      return #channels > 0 and edges or nil
    end
    local waits = call('GET', flow_key(owner))
    if not waits then
      return nil
    end
    local number
    channels[#channels + 1], number, lock = string.match(waits, '^(%S+) (%d+) (.*)$')
    value = call('HGET', root .. number .. '}:held', lock)
    if not value then
      return nil
    end
  end
end

-- Joins the queue of a lock that has this value, once; gives the cycle instead where waiting would never end. Only who
-- holds something can be part of one.
local function line_up(value, ttl, holder, channel, nested)
  local record_key = record_of(token)
  local edges = nested == '1' and cycle(value)
  if edges then
    call('LREM', queue_key, 1, token)
    call('DEL', record_key, flow_key(token))
    return edges
  end
  -- A waiter asks again after half its ttl; what is left when all are dead goes within the longest ttl. A record lives
  -- no longer than the queue, and the queue no longer than the mark on the lock.
  local life = math.ceil(ttl * 0.75)
  if call('PEXPIRE', record_key, life) == 0 then
    call('SET', record_key, ttl .. ' ' .. nested .. ' ' .. channel .. ' ' .. now .. ' ' .. holder, 'PX', life)
    call('RPUSH', queue_key, token)
    if string.sub(value, 1, 1) == '-' then
      call('HSET', held_key, name, '+' .. string.sub(value, 2))
    end
  end
  local left = call('PTTL', queue_key)
  if left < life then
    call('PEXPIRE', queue_key, ttl)
    left = ttl
  end
  if call('PTTL', held_key) < left + 0 then
    call('PEXPIRE', held_key, left)
  end
  if nested == '1' then
    call('SET', flow_key(token), channel .. ' ' .. string.match(bucket, '{(%d+)}:$') .. ' ' .. name, 'PX', life)
  end
end
