-- force: take the key from whoever holds it, and give it to the first live waiter. A note tells the one who held it.
--
-- KEYS     1 to 3 as in parts/lock.lua
-- ARGV     1 to 2 as in parts/lock.lua; the token is nobody's
-- returns  {'end in ms, fence, since in us, holder', now in us}     who held it   or   false
-- include: lock
local value = call('HGET', held_key, name)
if not value then
  return false
end
local mark, owner, about, ends = string.match(value, '^(.)(%S+) ((%d+) .*)$')
local left = ends - now_ms
if left <= 0 then
  return false
end
-- include: hand_over
-- After that its deadline has told it already.
call('SET', bucket .. 'released:' .. owner .. ':' .. name, '-2', 'PX', left)
free(mark)
return {about, now}
