-- renew: keep the key for another ttl if the token holds it; what has ended is never brought back.
--
-- KEYS     1 to 3 as in parts/lock.lua   4 note on how the token's lease has ended
-- ARGV     1 to 2 as in parts/lock.lua   3 ttl in ms
-- returns  1 renewed   0 nobody holds the key   -1 somebody else does   -2 it was taken away by force
-- include: lock
local note_key, ttl = KEYS[4], ARGV[3]

local value = call('HGET', held_key, name)
local mark, owner, ends, fence, since, holder
if value then
  mark, owner, ends, fence, since, holder = string.match(value, '^(.)(%S+) (%d+) (%d+) (%d+) (.*)$')
end
local lives = value and ends + 0 > now_ms
if lives and owner == token then
  hold(mark, token, ttl, fence, since, holder)
  return 1
end
if call('GET', note_key) == '-2' then
  return -2
end
return lives and -1 or 0
