-- leave: stop waiting for the key; if it was granted in the meantime, give it up.
--
-- KEYS     1 to 3 as in parts/lock.lua
-- ARGV     1 to 2 as in parts/lock.lua
-- returns  1: the token neither waits nor holds
-- include: lock
-- include: hand_over
local was_first = call('LINDEX', queue_key, 0) == token
call('LREM', queue_key, 1, token)
call('DEL', record_of(token), flow_key(token))
local value = call('HGET', held_key, name)
if value then
  local mark, owner, ends = string.match(value, '^(.)(%S+) (%d+) ')
  local left = ends - now_ms
  if left > 0 and owner == token then
    free(mark)
  elseif was_first then
    warn_first(left)
  end
end
return 1
