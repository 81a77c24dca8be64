-- release_many: give several keys up that the token holds, each to its first live waiter; sent twice, it is answered
-- twice alike.
--
-- KEYS     the keys of the locks, then the note that these were released
-- ARGV     1 token   2 nothing   3 root of all names   4 ms for which the note is kept, if the leases had as many left
-- returns  for each lock one character: 1 released   0 nobody holds the key   2 somebody else does   3 it was taken
--          away by force
-- include: lock grant several
local note_key, note_ttl = table.remove(KEYS), tonumber(ARGV[4])

local values = values_of(KEYS)
local buckets, names, queues = read_keys(KEYS)
local answers, owned = {}, {}
for index, value in ipairs(values) do
  if is_mine(value) then
    answers[index] = '1'
    owned[#owned + 1] = index
  elseif call('GET', buckets[index] .. ':released:' .. token .. ':' .. names[index]) == '-2' then
    answers[index] = '3'
  else
    answers[index] = value and '2' or '0'
  end
end
if #owned == 0 then
  return call('GET', note_key) or table.concat(answers)
end

-- So nothing outlives what a crash of the holder would have left.
note_ttl = math.max(1, math.min(note_ttl, call('PTTL', KEYS[owned[1]])))

local somebody_waits = count_existing(queues) > 0
local freed, freed_of = {}, {}
for _, index in ipairs(owned) do
  local bucket = buckets[index]
  local handed_over = false
  if somebody_waits then
    use(KEYS[index], bucket, names[index], queues[index])
    handed_over = hand_over()
  end
  if not handed_over then
    freed[#freed + 1] = KEYS[index]
    local of_bucket = freed_of[bucket]
    if not of_bucket then
      of_bucket = {}
      freed_of[bucket] = of_bucket
    end
    of_bucket[#of_bucket + 1] = names[index]
  end
end
in_portions(freed, function(...) call('DEL', ...) end)
for bucket, of_bucket in pairs(freed_of) do
  in_portions(of_bucket, function(...) call('ZREM', bucket .. ':held', ...) end)
end
local answer = table.concat(answers)
call('SET', note_key, answer, 'PX', note_ttl)
return answer
