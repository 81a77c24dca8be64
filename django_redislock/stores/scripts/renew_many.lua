-- renew_many: keep several keys, each for another ttl if its token holds it; what has ended is never brought back.
--
-- KEYS     as in parts/several.lua
-- ARGV     1 their tokens, with a space between them   2 buckets of the locks   3 root of all names   4 their ttls in
--          ms, likewise
-- returns  for each lock one character: 1 renewed   0 nobody holds the key   2 somebody else does   3 it was taken away
--          by force
-- include: lock several
local next_token, next_ttl = string.gmatch(token, '%S+'), string.gmatch(ARGV[4], '%S+')

local time = call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local answers, renewed, expiries, longest = {}, {}, {}, {}
for lock, value in ipairs(all_values()) do
  local owner, ttl = next_token() .. ' ', tonumber(next_ttl())
  if value and sub(value, 1, #owner) == owner then
    answers[lock] = '1'
    -- Never for less than it has left: its owner may have extended it while this was on its way.
    if call('PTTL', keys[lock]) < ttl then
      call('PEXPIRE', keys[lock], ttl)
      local place = byte(places, lock)
      renewed[#renewed + 1] = lock
      expiries[lock], longest[place] = now_ms + ttl, math.max(longest[place] or 0, ttl)
    end
  elseif taken_by_force(lock, sub(owner, 1, -2)) then
    answers[lock] = '3'
  else
    answers[lock] = value and '2' or '0'
  end
end
for place, entries in pairs(by_bucket(renewed, expiries)) do
  local held = keys[indexes + place]
  change('ZADD', held, entries)
  if call('PTTL', held) < longest[place] then
    call('PEXPIRE', held, longest[place])
  end
end
return table.concat(answers)
