-- leave: stop waiting for the key; if it was granted in the meantime, give it up.
--
-- KEYS     1 to 4 as in parts/lock.lua
-- ARGV     1 to 2 as in parts/lock.lua
-- returns  1: the token neither waits nor holds
-- include: lock flow grant
local was_first = call('LINDEX', queue_key, 0) == token
call('LREM', queue_key, 1, token)
stop_waiting()
local value = call('GET', lock_key)
if value and string.sub(value, 1, #token + 1) == token .. ' ' then
  free()
elseif was_first then
  warn_first(call('PTTL', lock_key))
end
return 1
