-- renew_many: keep several keys, each for another ttl if its token holds it; what has ended is never brought back.
--
-- KEYS     as in parts/several.lua
-- ARGV     1 their tokens, with a space between them   2 as in parts/several.lua   3 their ttls in ms, likewise
-- returns  for each lock one character: 1 renewed   0 nobody holds the key   2 somebody else does   3 it was taken away
--          by force
-- include: several
local next_token, next_ttl = string.gmatch(token, '%S+'), string.gmatch(ARGV[3], '%S+')

local time = call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local answers, expiries, longest = {}, {}, 0
for lock, value in ipairs(all_values()) do
  local owner, ttl = next_token() .. ' ', tonumber(next_ttl())
  if value and sub(value, 1, #owner) == owner then
    answers[lock] = '1'
    -- Never for less than it has left: its owner may have extended it while this was on its way.
    if call('PTTL', keys[lock]) < ttl then
      call('PEXPIRE', keys[lock], ttl)
      expiries[#expiries + 1] = now_ms + ttl
      expiries[#expiries + 1] = keys[lock]
      longest = math.max(longest, ttl)
    end
  elseif taken_by_force(lock, sub(owner, 1, -2)) then
    answers[lock] = '3'
  else
    answers[lock] = value and '2' or '0'
  end
end
change_held('ZADD', expiries)
if call('PTTL', held_key) < longest then
  call('PEXPIRE', held_key, longest)
end
return table.concat(answers)
