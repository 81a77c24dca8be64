-- renew_many: keep several keys, each for another ttl if its token holds it; what has ended is never brought back.
--
-- KEYS     the keys of the locks
-- ARGV     1 their tokens, with a space between them   2 nothing   3 root of all names   4 their ttls in ms, likewise
-- returns  for each lock one character: 1 renewed   0 nobody holds the key   2 somebody else does   3 it was taken away
--          by force
-- include: lock grant several
local next_token, next_ttl = string.gmatch(token, '%S+'), string.gmatch(ARGV[4], '%S+')

local time = call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local buckets, names = read_keys(KEYS)
local answers, entries, longest = {}, {}, {}
for index, value in ipairs(values_of(KEYS)) do
  local owner, ttl = next_token() .. ' ', tonumber(next_ttl())
  local bucket = buckets[index]
  if value and string.sub(value, 1, #owner) == owner then
    answers[index] = '1'
    -- Never for less than it has left: its owner may have extended it while this was on its way.
    if call('PTTL', KEYS[index]) < ttl then
      call('PEXPIRE', KEYS[index], ttl)
      local of_bucket = entries[bucket] or {}
      of_bucket[#of_bucket + 1] = now_ms + ttl
      of_bucket[#of_bucket + 1] = names[index]
      entries[bucket], longest[bucket] = of_bucket, math.max(longest[bucket] or 0, ttl)
    end
  elseif call('GET', bucket .. ':released:' .. string.sub(owner, 1, -2) .. ':' .. names[index]) == '-2' then
    answers[index] = '3'
  else
    answers[index] = value and '2' or '0'
  end
end
for bucket, of_bucket in pairs(entries) do
  local held = bucket .. ':held'
  call('ZADD', held, unpack(of_bucket))
  if call('PTTL', held) < longest[bucket] then
    call('PEXPIRE', held, longest[bucket])
  end
end
return table.concat(answers)
