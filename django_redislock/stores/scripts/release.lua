-- release: free the key if the token holds it; a release that was sent twice is answered twice alike.
--
-- KEYS     1 lock   2 held index of the bucket   3 note that the token was released
-- ARGV     1 token   2 name of the lock   3 ms for which the note is kept, if the lease had as many left
-- returns  1 released   0 nobody holds the key   -1 somebody else does
local lock_key, held_key, note_key = KEYS[1], KEYS[2], KEYS[3]
local token, name, note_ttl = ARGV[1], ARGV[2], tonumber(ARGV[3])

local value = redis.call('GET', lock_key)
if value and string.sub(value, 1, #token + 1) == token .. ' ' then
  -- So nothing outlives what a crash of the holder would have left.
  note_ttl = math.max(1, math.min(note_ttl, redis.call('PTTL', lock_key)))
  redis.call('DEL', lock_key)
  redis.call('ZREM', held_key, name)
  redis.call('SET', note_key, '1', 'PX', note_ttl)
  return 1
end
if redis.call('EXISTS', note_key) == 1 then
  return 1
end
return value and -1 or 0
