-- leave: stop waiting for the key; if it was granted in the meantime, give it up.
--
-- KEYS     1 to 5 as in parts/grant.lua
-- ARGV     1 to 3 as in parts/grant.lua
-- returns  1: the token neither waits nor holds
local was_first = redis.call('LINDEX', queue_key, 0) == token
redis.call('LREM', queue_key, 1, token)
redis.call('HDEL', waiters_key, token)
redis.call('DEL', root .. ':flow:' .. flow_of(token))
if is_owner(redis.call('GET', lock_key)) then
  free()
elseif was_first then
  warn_first(redis.call('PTTL', lock_key))
end
return 1
