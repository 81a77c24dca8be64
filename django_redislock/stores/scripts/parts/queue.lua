-- queue: standing in line for a lock that somebody holds, put after parts/grant.lua.

-- Follows who waits for whom; gives the locks of the cycle with their holders if it ends at this token's flow.
local function cycle(edge_key, edge_value)
  local mine = flow_of(token)
  local edges, channels = {2}, {}
  for _ = 1, 1000 do
    edges[#edges + 1] = string.match(edge_key, '}:lock:(.*)$')
    edges[#edges + 1] = string.match(edge_value, '^%S+ %d+ %d+ (.*)$')
    local flow = flow_of(edge_value)
    if flow == mine then
      -- What a dead process waited for closes no cycle: its locks will expire.
      for _, hearers in ipairs(channels) do
        if publish(hearers, '') == 0 then
          return nil
        end
      end
      -- A lease of its own that it does not trust any more is no cycle either: that expires.
      return #channels > 0 and edges or nil
    end
    local waits = call('GET', root .. ':flow:' .. flow)
    if not waits then
      return nil
    end
    channels[#channels + 1], edge_key = string.match(waits, '^(%S+) (.*)$')
    edge_value = call('GET', edge_key)
    if not edge_value then
      return nil
    end
  end
end

-- Joins the queue of a lock that has this value, once; gives the cycle instead where waiting would never end.
local function line_up(value, now, ttl, holder, channel)
  local entry = channel .. ' ' .. ttl .. ' ' .. now .. ' ' .. holder
  if call('HSETNX', waiters_key, token, entry) == 1 then
    local edges = cycle(lock_key, value)
    if edges then
      call('HDEL', waiters_key, token)
      return edges
    end
    call('RPUSH', queue_key, token)
  end
  -- A waiter asks again before this is over; what is left when all are dead goes within the longest ttl.
  local life = math.max(tonumber(ttl), call('PTTL', queue_key))
  call('PEXPIRE', queue_key, life)
  call('PEXPIRE', waiters_key, life)
  call('SET', root .. ':flow:' .. flow_of(token), channel .. ' ' .. lock_key, 'PX', life)
end

