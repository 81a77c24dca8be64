-- keep: keep the places of those who wait for the key and listen on one channel, and say who they are.
--
-- KEYS     1 lock   2 queue of the lock
-- ARGV     1 wake-up channel   2 what the names of flows begin with
-- returns  {ttl of the lock left in ms, or -2 where nobody holds it; token; token; ...}
local lock_key, queue_key = KEYS[1], KEYS[2]
local channel, root = ARGV[1], ARGV[2]

local MOST = 1000 -- Lua cannot pass more arguments than some thousands at once
local call = redis.call

local answer = {call('PTTL', lock_key)}
local life = call('PTTL', queue_key)
local tokens = call('LRANGE', queue_key, 0, -1)
for from = 1, #tokens, MOST do
  local flows = {}
  for index = from, math.min(from + MOST - 1, #tokens) do
    flows[#flows + 1] = root .. ':flow:' .. string.sub(tokens[index], 1, 16)
  end
  for index, entry in ipairs(call('MGET', unpack(flows))) do
    local token, hears, ttl = string.match(entry or '', '^(%S+) (%S+) (%d+) ')
    if hears == channel and token == tokens[from + index - 1] then
      answer[#answer + 1] = token
      life = math.max(life, tonumber(ttl))
      call('PEXPIRE', flows[index], ttl)
    end
  end
end
if #answer > 1 then
  call('PEXPIRE', queue_key, life)
end
return answer
