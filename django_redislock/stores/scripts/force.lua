-- force: take the key from whoever holds it, and give it to the first live waiter. A note tells the one who held it.
--
-- KEYS     1 to 5 as in parts/grant.lua
-- ARGV     1 to 3 as in parts/grant.lua; the token is nobody's   4 the fence of who is meant, or nothing: whoever it is
-- returns  {fence, since in us, now in us, ttl left in ms, holder}     who held it   or   false
local meant = ARGV[4]

local value = redis.call('GET', lock_key)
if not value then
  return false
end
local owner, fence, since, who = string.match(value, '^(%S+) (%d+) (%d+) (.*)$')
if meant ~= '' and meant ~= fence then
  return false
end
local left = redis.call('PTTL', lock_key)
-- After that its deadline has told it already.
local note_key = string.sub(held_key, 1, -#':held' - 1) .. ':released:' .. owner .. ':' .. name
redis.call('SET', note_key, '-2', 'PX', math.max(1, left))
free()
return {tonumber(fence), tonumber(since), server_time(), left, who}
