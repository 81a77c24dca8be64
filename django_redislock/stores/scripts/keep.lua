-- keep: keep the places of those who wait for the key and listen on one channel, and say who they are.
--
-- KEYS     1 lock   2 queue of the lock   3 waiters of the lock
-- ARGV     1 wake-up channel   2 what the names of flows begin with
-- returns  {ttl of the lock left in ms, or -2 where nobody holds it; token; token; ...}
local lock_key, queue_key, waiters_key = KEYS[1], KEYS[2], KEYS[3]
local channel, root = ARGV[1], ARGV[2]

local function flow_of(owner)
  return string.sub(owner, 1, 16)
end

local answer = {redis.call('PTTL', lock_key)}
local life = redis.call('PTTL', queue_key)
local waiters = redis.call('HGETALL', waiters_key)
for index = 1, #waiters, 2 do
  local token = waiters[index]
  local hears, ttl = string.match(waiters[index + 1], '^(%S+) (%d+) ')
  if hears == channel then
    answer[#answer + 1] = token
    life = math.max(life, tonumber(ttl))
    redis.call('PEXPIRE', root .. ':flow:' .. flow_of(token), ttl)
  end
end
if #answer > 1 then
  redis.call('PEXPIRE', queue_key, life)
  redis.call('PEXPIRE', waiters_key, life)
end
return answer
