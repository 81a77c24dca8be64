-- acquire: take a free key for a token, or say who holds it, and join its queue if a wake-up channel is given. The
-- token that holds it already, or waits already, is told so again.
--
-- KEYS     1 to 3 as in parts/lock.lua
-- ARGV     1 to 2 as in parts/lock.lua   3 ttl in ms   4 holder   5 wake-up channel, or nothing: do not wait
--          6 1 if the flow holds other locks, else 0
-- returns  fence                                              the key is the token's
--          {0, 'end in ms, fence, since in us, holder', now in us}     somebody else's
--          {2, name, holder, name, holder, ...}               waiting would never end: who holds what
-- include: lock
local ttl, holder, channel, nested = ARGV[3], ARGV[4], ARGV[5], ARGV[6]

local value = call('HGET', held_key, name)
if not value then
  local fence = next_fence()
  hold('-', token, ttl, fence, now, holder)
  -- What holders left behind that vanished goes as the bucket is used: now and then some of it is looked at.
  if time[2] % 64 == 0 then
    local some = call('HRANDFIELD', held_key, 64, 'WITHVALUES')
    for index = 1, #some, 2 do
      local ends = string.match(some[index + 1], '^%S+ (%d+) ')
      local queue = string.sub(held_key, 1, -#'held' - 1) .. 'queue:' .. some[index]
      if ends + 0 <= now_ms and call('EXISTS', queue) == 0 then
        call('HDEL', held_key, some[index])
      end
    end
  end
  return tonumber(fence)
end

local mark, owner, ends, fence, since, who = string.match(value, '^(.)(%S+) (%d+) (%d+) (%d+) (.*)$')
local is_over = ends + 0 <= now_ms
if owner == token and not is_over then
  -- The answer, or the message of the grant, was missed: the asker counts its ttl from this question on.
  hold(mark, token, ttl, fence, since, who)
  return tonumber(fence)
end

-- include: hand_over
if is_over then
  -- Free: whoever waits for it comes first.
  local first
  if mark == '+' then
    first, fence = hand_over()
  end
  if not first then
    first, fence = token, next_fence()
    hold('-', token, ttl, fence, now, holder)
  end
  if first == token then
    return tonumber(fence)
  end
  value = call('HGET', held_key, name)
end

-- include: queue
if channel ~= '' then
  local edges = line_up(value, ttl, holder, channel, nested)
  if edges then
    return edges
  end
end
return {0, string.match(value, '^%S+ (.*)$'), now}
