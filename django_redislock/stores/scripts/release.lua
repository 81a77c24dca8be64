-- release: give the key up if the token holds it; a release that was sent twice is answered twice alike.
--
-- KEYS     1 to 5 as in parts/grant.lua   6 note that the token was released
-- ARGV     1 to 3 as in parts/grant.lua   4 ms for which the note is kept, if the lease had as many left
-- returns  1 released   0 nobody holds the key   -1 somebody else does   -2 it was taken away by force
local note_key = KEYS[6]
local note_ttl = tonumber(ARGV[4])

local value = redis.call('GET', lock_key)
if is_owner(value) then
  -- So nothing outlives what a crash of the holder would have left.
  note_ttl = math.max(1, math.min(note_ttl, redis.call('PTTL', lock_key)))
  free()
  redis.call('SET', note_key, '1', 'PX', note_ttl)
  return 1
end
local note = redis.call('GET', note_key)
if note then
  return tonumber(note)
end
return value and -1 or 0
