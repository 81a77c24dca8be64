-- acquire: take a free key for a token, or say who holds it, and join its queue if a wake-up channel is given. The
-- token that holds it already, or waits already, is told so again.
--
-- KEYS     1 to 5 as in parts/grant.lua
-- ARGV     1 to 3 as in parts/grant.lua   4 ttl in ms   5 holder   6 wake-up channel, or nothing: do not wait
-- returns  {1, fence}                                                     the key is the token's
--          {0, fence, since in us, now in us, ttl left in ms, holder}     somebody else's
--          {2, name, holder, name, holder, ...}                          waiting would never end: who holds what
local ttl, holder, channel = ARGV[4], ARGV[5], ARGV[6]

local now = server_time()
local value = redis.call('GET', lock_key)
if is_owner(value) then
  return {1, tonumber(string.match(value, '^%S+ (%d+) '))}
end

if not value then
  -- Free: whoever waits for it comes first.
  local first, fence = hand_over()
  if not first then
    fence = next_fence(string.format('%.0f', now), now)
    own(token, fence, now, ttl, holder)
  end
  if not first or first == token then
    return {1, tonumber(fence)}
  end
  value = redis.call('GET', lock_key)
end

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
        if redis.call('PUBLISH', hearers, '') == 0 then
          return nil
        end
      end
      -- A lease of its own that it does not trust any more is no cycle either: that expires.
      return #channels > 0 and edges or nil
    end
    local waits = redis.call('GET', root .. ':flow:' .. flow)
    if not waits then
      return nil
    end
    channels[#channels + 1], edge_key = string.match(waits, '^(%S+) (.*)$')
    edge_value = redis.call('GET', edge_key)
    if not edge_value then
      return nil
    end
  end
end

local left = redis.call('PTTL', lock_key)
if channel ~= '' then
  local entry = channel .. ' ' .. ttl .. ' ' .. string.format('%.0f', now) .. ' ' .. holder
  if redis.call('HSETNX', waiters_key, token, entry) == 1 then
    local edges = cycle(lock_key, value)
    if edges then
      redis.call('HDEL', waiters_key, token)
      return edges
    end
    redis.call('RPUSH', queue_key, token)
  end
  -- A waiter asks again before this is over; what is left when all are dead goes within the longest ttl.
  local life = math.max(tonumber(ttl), redis.call('PTTL', queue_key))
  redis.call('PEXPIRE', queue_key, life)
  redis.call('PEXPIRE', waiters_key, life)
  redis.call('SET', root .. ':flow:' .. flow_of(token), channel .. ' ' .. lock_key, 'PX', life)
end
local _, fence, since, who = string.match(value, '^(%S+) (%d+) (%d+) (.*)$')
return {0, tonumber(fence), tonumber(since), now, left, who}
