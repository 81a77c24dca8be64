-- release_many: give several keys up that the token holds, each to its first live waiter; sent twice, it is answered
-- twice alike.
--
-- KEYS     as in parts/several.lua
-- ARGV     1 to 2 as in parts/several.lua   3 ms for which it is noted that these were released   4 what these are called
--          in the note
-- returns  for each lock one character: 1 released   0 nobody holds the key   2 somebody else does   3 it was taken
--          away by force
-- include: several
local note_ttl, note_name = ARGV[3], ARGV[4]

local answers, owned, alike = {}, {}, nil
for lock, value in ipairs(all_values()) do
  if value == alike or is_mine(value) then
    answers[lock], alike = '1', value -- mostly that of all
    owned[#owned + 1] = lock
  elseif taken_by_force(lock, token) then
    answers[lock] = '3'
  else
    answers[lock] = value and '2' or '0'
  end
end
local note_key = note_of(keys[1], token .. '+' .. note_name)
if #owned == 0 then
  return call('GET', note_key) or table.concat(answers)
end

local freed = {}
if somebody_waits() then
  -- include: one flow grant
  for _, lock in ipairs(owned) do
    use(lock)
    if not hand_over() then
      freed[#freed + 1] = lock_key
    end
  end
else
  for place, lock in ipairs(owned) do
    freed[place] = keys[lock]
  end
end
for from = 1, #freed, MOST do
  call('DEL', unpack(freed, from, min(from + MOST - 1, #freed)))
end
change_held('ZREM', freed)
local answer = table.concat(answers)
call('SET', note_key, answer, 'PX', note_ttl)
return answer
