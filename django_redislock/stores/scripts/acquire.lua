-- acquire: take a free key for a token, or say who holds it, and join its queue if a wake-up channel is given. The
-- token that holds it already, or waits already, is told so again.
--
-- KEYS     1 to 4 as in parts/lock.lua
-- ARGV     1 to 2 as in parts/lock.lua   3 ttl in ms   4 holder   5 wake-up channel, or nothing: do not wait
-- returns  {1, fence}                                                     the key is the token's
--          {0, fence, since in us, now in us, ttl left in ms, holder}     somebody else's
--          {2, name, holder, name, holder, ...}                          waiting would never end: who holds what
-- include: lock
local ttl, holder, channel = ARGV[3], ARGV[4], ARGV[5]

-- include: now
local there = call('EXISTS', lock_key, queue_key, held_key)
local index_ttl = there == 1 and call('PTTL', held_key) or -2
if there == 0 or index_ttl ~= -2 then -- nothing, or nothing but the index
  local owner, hoped = token, now
  -- include: fence owner tidy
  return {1, tonumber(fence)}
end

local value = call('GET', lock_key)
if value and string.sub(value, 1, #token + 1) == token .. ' ' then
  -- The answer, or the message of the grant, was missed: the asker counts its ttl from this question on.
  call('PEXPIRE', lock_key, ttl)
  -- include: index held
  return {1, tonumber(string.match(value, '^%S+ (%d+) '))}
end

-- include: flow
if not value then
  -- Free: whoever waits for it comes first.
  -- include: grant
  local first, granted = hand_over()
  if not first then
    local owner, hoped = token, now
    -- include: fence index owner
    first, granted = owner, fence
  end
  if first == token then
    return {1, tonumber(granted)}
  end
  value = call('GET', lock_key)
end

-- include: queue
local left = call('PTTL', lock_key)
if channel ~= '' then
  local edges = line_up(value, now, ttl, ttl, holder, channel)
  if edges then
    return edges
  end
end
local _, fence, since, who = string.match(value, '^(%S+) (%d+) (%d+) (.*)$')
return {0, tonumber(fence), tonumber(since), tonumber(now), left, who}
