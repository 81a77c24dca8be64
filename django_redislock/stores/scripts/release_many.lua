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


local values = all_values()
local note_key = note_of(keys[1], token .. '+' .. note_name)

-- Deletes the first ones of a list of keys, and gives the answer from now on.
local function free_all(freed, number, answer)
  for from = 1, number, MOST do
    local upto = min(from + MOST - 1, number)
    call('DEL', unpack(freed, from, upto))
    call('ZREM', held_key, unpack(freed, from, upto))
  end
  call('SET', note_key, answer, 'PX', note_ttl)
  return answer
end

-- Mostly the token holds them all since the same instant, and nobody waits.
local alike = values[1]
local all = is_mine(alike)
for lock = 2, count do
  all = all and values[lock] == alike
end
local waits = somebody_waits()
if all and not waits then
  return free_all(keys, count, string.rep('1', count))
end

local answers, owned = {}, {}
for lock, value in ipairs(values) do
  if is_mine(value) then
    answers[lock] = '1'
    owned[#owned + 1] = lock
  elseif taken_by_force(lock, token) then
    answers[lock] = '3'
  else
    answers[lock] = value and '2' or '0'
  end
end
if #owned == 0 then
  return call('GET', note_key) or table.concat(answers)
end

local freed = {}
-- include: one flow grant
for _, lock in ipairs(owned) do
  use(lock)
  if not (waits and hand_over()) then
    freed[#freed + 1] = lock_key
  end
end
return free_all(freed, #freed, table.concat(answers))
