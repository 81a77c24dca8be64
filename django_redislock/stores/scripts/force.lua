-- force: take the key from whoever holds it, and give it to the first live waiter.
--
-- KEYS     1 to 5 as in parts/grant.lua
-- ARGV     1 to 3 as in parts/grant.lua; the token is nobody's
-- returns  1 taken away   0 nobody holds the key
if redis.call('EXISTS', lock_key) == 0 then
  return 0
end
free()
return 1
