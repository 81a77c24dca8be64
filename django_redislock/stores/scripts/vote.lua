-- vote: as acquire, at one of the nodes of a quorum, which may have to sit out. Whoever waits for the key is given it
-- for a moment only, in which it has to ask the other nodes.
--
-- KEYS     1 to 4 as in parts/lock.lua   5 marker of the node
-- ARGV     1 to 2 as in parts/lock.lua, but after the token a space and the least fence   3 ttl in ms   4 holder
--          5 wake-up channel, or nothing: do not wait   6 run id of the server, or -   7 guard time in ms
-- returns  {1, fence, now in us}                                          the vote is the token's
--          {0, fence, since in us, now in us, ttl left in ms, holder}     somebody else's
--          {2, {fence, ... as above}, {2, name, holder, name, holder, ...}}   waiting would never end: who holds what
--          {3, ms left, their end in ms}                                  it sits out
-- include: lock sitting
local marker_key = KEYS[5]
local ttl, holder, channel, run, guard = ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
local least
token, least = string.match(token, '^(%S+) (%d+)$')

-- include: now
local left, ends = sits_out(marker_key, run, guard, math.floor(now / 1000))
if left > 0 then
  return {3, left, ends}
end

local hoped = tonumber(least) > tonumber(now) and least or now
local there = call('EXISTS', lock_key, queue_key, held_key)
local index_ttl = there == 1 and call('PTTL', held_key) or -2
if there == 0 or index_ttl ~= -2 then -- nothing, or nothing but the index
  local owner = token
  -- include: fence owner tidy
  return {1, tonumber(fence), tonumber(now)}
end

local value = call('GET', lock_key)
if value and string.sub(value, 1, #token + 1) == token .. ' ' then
  call('PEXPIRE', lock_key, ttl)
  -- include: index held
  return {1, tonumber(string.match(value, '^%S+ (%d+) ')), tonumber(now)}
end

-- include: flow
if not value then
  -- include: grant
  local first, granted = hand_over()
  if not first then
    -- include: fence
    first, granted = token, fence
  end
  if first == token then
    local owner, fence = token, granted
    -- include: index owner
    return {1, tonumber(fence), tonumber(now)}
  end
  value = call('GET', lock_key)
end

-- include: queue
-- Milliseconds for which a waiter is given the key: longer than it takes to ask the other nodes.
local TURN = 200
local lives_for = call('PTTL', lock_key)
local _, fence, since, who = string.match(value, '^(%S+) (%d+) (%d+) (.*)$')
if channel ~= '' then
  -- The turn is short; the place in the queue is kept for as long as a lease.
  local edges = line_up(value, now, math.min(tonumber(ttl), TURN), ttl, holder, channel)
  if edges then
    -- Another node may see that there is no cycle.
    return {2, {tonumber(fence), tonumber(since), tonumber(now), lives_for, who}, edges}
  end
end
return {0, tonumber(fence), tonumber(since), tonumber(now), lives_for, who}
