-- release: give the key up if the token holds it; a release that was sent twice is answered twice alike.
--
-- KEYS     1 to 3 as in parts/lock.lua   4 note on how the token's lease has ended
-- ARGV     1 to 2 as in parts/lock.lua   3 ms for which the note is kept, if the lease had as many left
-- returns  1 released   0 nobody holds the key   -1 somebody else does   -2 it was taken away by force
-- include: lock
local note_key, note_ttl = KEYS[4], ARGV[3]

local value = call('HGET', held_key, name)
local mark, owner, ends
if value then
  mark, owner, ends = string.match(value, '^(.)(%S+) (%d+) ')
end
local left = value and ends - now_ms or 0
if left <= 0 or owner ~= token then
  local note = call('GET', note_key)
  return note and tonumber(note) or left > 0 and -1 or 0
end
-- So nothing outlives what a crash of the holder would have left.
call('SET', note_key, '1', 'PX', math.min(note_ttl, left))
if mark == '-' then
  call('HDEL', held_key, name)
  return 1
end
-- include: hand_over
free(mark)
return 1
