-- release_many: give several keys up that the token holds, each to its first live waiter; sent twice, it is answered
-- twice alike.
--
-- KEYS     as in parts/several.lua, then the note that these were released
-- ARGV     1 to 3 as in parts/several.lua   4 ms for which the note is kept, if the leases had as many left
-- returns  1 all were released   or for each lock one character: 1 released   0 nobody holds the key   2 somebody else
--          does   3 it was taken away by force
-- include: lock
local note, note_ttl = table.remove(KEYS), ARGV[4]
-- include: hand_over
-- include: several
local values = values_of_all()

local leaving, waited_for, left = {}, {}, 0
for index = 1, #names do
  local value = values[index]
  if is_mine(value) then
    left = string.match(value, ' (%d+)') - now_ms
    if string.sub(value, 1, 1) == '-' then
      local entries = leaving[group_of[index]] or {}
      leaving[group_of[index]] = entries
      entries[#entries + 1] = names[index]
    else
      waited_for[#waited_for + 1] = index
    end
    values[index] = true
  end
end
if left == 0 then
  local answer = call('GET', note)
  if answer then
    return answer
  end
end

for group, entries in pairs(leaving) do
  call('HDEL', KEYS[2 * group - 1], unpack(entries))
end
for _, index in ipairs(waited_for) do
  use(index)
  free('+')
end
local answers, all = {}, true
for index = 1, #names do
  if values[index] == true then
    answers[index] = '1'
  else
    all = false
    use(index)
    answers[index] = call('GET', note_key()) == '-2' and '3' or is_held(values[index]) and '2' or '0'
  end
end
local answer = all and '1' or table.concat(answers)
if left > 0 then
  -- So nothing outlives what a crash of the holder would have left.
  call('SET', note, answer, 'PX', math.min(note_ttl, left))
end
return answer
