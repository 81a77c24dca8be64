-- queue: standing in line for a lock that somebody holds, put after parts/grant.lua.

-- Follows who waits for whom; gives the locks of the cycle with their holders if it ends at this token's flow.
local function cycle(edge_key, edge_value)
  local mine = flow_of(token)
  local edges, channels = {2}, {}
  for _ = 1, 1000 do
    local flow = flow_of(edge_value)
    local waits = flow ~= mine and call('GET', wait_of(flow))
    if flow ~= mine and not waits then
      return nil
    end
    edges[#edges + 1] = string.match(edge_key, '}:lock:(.*)$')
    edges[#edges + 1] = string.match(edge_value, '^%S+ %d+ %d+ (.*)$')
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
    channels[#channels + 1], edge_key = string.match(waits, '^%S+ (%S+) [^\n]*\n(.*)$')
    edge_value = call('GET', edge_key)
    if not edge_value then
      return nil
    end
  end
end

-- Joins the queue of a lock that has this value, once, for a life in ms; gives the cycle instead where waiting would never
-- end. The ttl is what it is to be given.
local function line_up(value, now, ttl, life, holder, channel)
  local wait_key = wait_of(token)
  local entry = token .. ' ' .. channel .. ' ' .. ttl .. ' ' .. now .. ' ' .. holder .. '\n' .. lock_key
  -- A waiter asks again before this is over; what is left when all are dead goes within the longest ttl.
  life = math.max(tonumber(life), call('PTTL', queue_key))
  local before = call('SET', wait_key, entry, 'PX', life, 'GET')
  if before and string.match(before, '^%S+') == token and string.match(before, '\n(.*)$') == lock_key then
    call('SET', wait_key, before, 'PX', life) -- with the time since when it waits
    if not call('LPOS', queue_key, token) then
      call('RPUSH', queue_key, token) -- the store has lost the queue
    end
  else
    local edges = cycle(lock_key, value)
    if edges then
      call('DEL', wait_key)
      return edges
    end
    call('RPUSH', queue_key, token)
  end
  call('PEXPIRE', queue_key, life)
end

