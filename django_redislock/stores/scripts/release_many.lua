-- release_many: give several keys up that the token holds, each to its first live waiter; sent twice, it is answered
-- twice alike.
--
-- KEYS     as in parts/several.lua
-- ARGV     1 token   2 buckets of the locks   3 root of all names   4 ms for which it is noted that these were released
--          5 what these are called in the note
-- returns  for each lock one character: 1 released   0 nobody holds the key   2 somebody else does   3 it was taken
--          away by force
-- include: lock several
local note_ttl, note_name = ARGV[4], ARGV[5]

local answers, owned = {}, {}
for lock, value in ipairs(all_values()) do
  if is_mine(value) then
    answers[lock] = '1'
    owned[#owned + 1] = lock
  elseif taken_by_force(lock, token) then
    answers[lock] = '3'
  else
    answers[lock] = value and '2' or '0'
  end
end
local note_key = note_of(1, token, note_name)
if #owned == 0 then
  return call('GET', note_key) or table.concat(answers)
end

local freed = owned
if somebody_waits() then
  -- include: own grant
  freed = {}
  for _, lock in ipairs(owned) do
    use(lock)
    if not hand_over() then
      freed[#freed + 1] = lock
    end
  end
end
for from = 1, #freed, MOST do
  local gone = {}
  for at = from, min(from + MOST - 1, #freed) do
    gone[#gone + 1] = keys[freed[at]]
  end
  call('DEL', unpack(gone))
end
for place, entries in pairs(by_bucket(freed)) do
  change('ZREM', keys[indexes + place], entries)
end
local answer = table.concat(answers)
call('SET', note_key, answer, 'PX', note_ttl)
return answer
