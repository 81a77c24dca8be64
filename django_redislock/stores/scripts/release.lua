-- release: give the key up if the token holds it; a release that was sent twice is answered twice alike.
--
-- KEYS     1 to 4 as in parts/lock.lua
-- ARGV     1 to 2 as in parts/lock.lua   3 ms for which the note is kept
-- returns  1 released   0 nobody holds the key   -1 somebody else does   -2 it was taken away by force
-- include: lock note
local note_ttl, note_key = ARGV[3], note_of(lock_key, token)

local value = call('GET', lock_key)
if not value or string.sub(value, 1, #token + 1) ~= token .. ' ' then
  local note = call('GET', note_key)
  return note and tonumber(note) or value and -1 or 0
end
local waiter = call('LPOP', queue_key)
if not waiter then
  call('DEL', lock_key)
  call('ZREM', held_key, lock_key)
else
  -- include: now flow turn
  if not granted then
    -- include: grant
    free()
  end
end
-- Not before the key was given up: that is to be done also when the memory is full.
call('SET', note_key, '1', 'PX', note_ttl)
return 1
