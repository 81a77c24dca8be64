-- raise: give the lease that the token holds a higher fence, which no later one of this node falls short of.
--
-- KEYS     1 to 4 as in parts/lock.lua
-- ARGV     1 to 2 as in parts/lock.lua   3 the fence
-- returns  1 the lease has this fence, or a higher one   0 the token does not hold the key
-- include: lock
local raised = tonumber(ARGV[3])

local value = call('GET', lock_key)
if not value or string.sub(value, 1, #token + 1) ~= token .. ' ' then
  return 0
end
local fence, holder = string.match(value, '^%S+ (%d+) %d+ (.*)$')
if tonumber(fence) < raised then
  local owner, ttl, hoped = token, call('PTTL', lock_key), string.format('%.0f', raised)
  do
    -- include: fence
  end
  fence = hoped
  -- include: now index owner
end
return 1
