-- leave: stop waiting for the key; if it was granted in the meantime, give it up.
--
-- KEYS     1 to 4 as in parts/lock.lua
-- ARGV     1 to 2 as in parts/lock.lua
-- returns  1: the token neither waits nor holds
-- include: lock own grant
local was_first = call('LINDEX', queue_key, 0) == token
call('LREM', queue_key, 1, token)
stop_waiting()
if is_owner(call('GET', lock_key)) then
  free()
elseif was_first then
  warn_first(call('PTTL', lock_key))
end
return 1
