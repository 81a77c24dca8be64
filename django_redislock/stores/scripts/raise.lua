-- raise: give the lease that the token holds a higher fence, which no later one of this node falls short of.
--
-- KEYS     1 to 5 as in parts/grant.lua
-- ARGV     1 to 3 as in parts/grant.lua   4 the fence
-- returns  1 the lease has this fence, or a higher one   0 the token does not hold the key
local raised = tonumber(ARGV[4])

local value = redis.call('GET', lock_key)
if not is_owner(value) then
  return 0
end
local fence, holder = string.match(value, '^%S+ (%d+) %d+ (.*)$')
if tonumber(fence) < raised then
  next_fence(string.format('%.0f', raised), raised)
  own(token, string.format('%.0f', raised), server_time(), redis.call('PTTL', lock_key), holder)
end
return 1
