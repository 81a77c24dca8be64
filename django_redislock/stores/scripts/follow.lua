-- follow: who waits for whom, from the owner of a lock on to a lock that a flow has: what that flow awaits, Redis does
-- not know.
--
-- KEYS     1 to 4 as in parts/lock.lua
-- ARGV     1 to 2 as in parts/lock.lua, but the flow instead of a token
-- returns  {2, name, holder, name, holder, ...} who holds what, up to that lock   or   {2}: it does not lead there
-- include: lock flow queue
local value = call('GET', lock_key)
return value and cycle(lock_key, value) or {2}
