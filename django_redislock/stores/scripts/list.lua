-- list: say what is held, by whom, and who waits for it. No token is told.
--
-- KEYS     1 held index
-- ARGV     1 queues: with everybody who waits; anything else: with their number   2 root as in parts/lock.lua
--          3 from which expiry on, as ZRANGEBYSCORE takes it, or nothing: from the first
-- returns  {now in us, next, entries, values, waiters, flows}. Next is from where to ask on, or nothing: there are no
--          more. The rest is in the same order. Entries and waiters are JSON:
--          lock key and expire in ms, by turns, and numbers or lists of {flow, since in us, holder}, or 0 where nobody
--          waits for any. Values have lines between: fence, since in us, and holder, or nothing for a lock that is
--          not there. Flows have spaces between, and come with the queues
--
-- There may be thousands: what is in the loop over their values counts.
local held_key = KEYS[1]
local with_queues, root, from = ARGV[1] == 'queues', ARGV[2], ARGV[3]

-- More at once would keep the server from others, and Lua cannot pass more arguments than some thousands.
local MOST = 1000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- The half of a token that says whose it is; the other half is the secret.
local function flow_of(token)
  return string.sub(token, 1, 16)
end

local function queue_of(lock_key)
  local tag = string.find(lock_key, '}', #root, true)
  return string.sub(lock_key, 1, tag) .. ':queue' .. string.sub(lock_key, tag + #'}:lock')
end

local function waiters_in(queue_key)
  local waiters = {}
  for index, token in ipairs(redis.call('LRANGE', queue_key, 0, -1)) do
    local entry = redis.call('GET', root .. ':flow:' .. flow_of(token)) or ''
    local who, since, holder = string.match(entry, '^(%S+) %S+ %d+ (%d+) ([^\n]*)')
    if who == token then
      waiters[#waiters + 1] = {flow_of(token), since, holder}
    end
  end
  return waiters
end

local function waiters_of(entries)
  -- Who waits listens. Where nobody does, thousands of queues need not be looked for.
  if #redis.call('PUBSUB', 'CHANNELS', '*wake:*') + #redis.pcall('PUBSUB', 'SHARDCHANNELS', '*wake:*') == 0 then
    return 0
  end
  local queues = {}
  for index = 1, #entries, 2 do
    queues[#queues + 1] = queue_of(entries[index])
  end
  local found = 0
  for from = 1, #queues, MOST do
    found = found + redis.call('EXISTS', unpack(queues, from, math.min(from + MOST - 1, #queues)))
  end
  if found == 0 then
    return 0
  end
  local waiters = {}
  for index, queue_key in ipairs(queues) do
    local number = redis.call('LLEN', queue_key)
    waiters[index] = with_queues and number > 0 and waiters_in(queue_key) or number
  end
  return waiters
end

local call, find, sub = redis.call, string.find, string.sub
local values, flows, count = {}, {}, 0
if from == '' then
  from = math.floor(now / 1000)
end
-- All that expire at the same time come together.
local upto = call('ZRANGEBYSCORE', held_key, from, '+inf', 'WITHSCORES', 'LIMIT', MOST - 1, 1)[2]
local entries = call('ZRANGEBYSCORE', held_key, from, upto or '+inf', 'WITHSCORES')
for from = 1, #entries, 2 * MOST do
  local locks, number = {}, 0
  for index = from, math.min(from + 2 * MOST, #entries) - 1, 2 do
    number = number + 1
    locks[number] = entries[index]
  end
  for index, value in ipairs(call('MGET', unpack(locks))) do
    count = count + 1
    -- The first word is the token. The index may name what has been taken away by hand.
    values[count] = value and sub(value, find(value, ' ', 1, true) + 1) or ''
    if with_queues then
      flows[count] = flow_of(value or '')
    end
  end
end
return {now, upto and '(' .. upto or '', cjson.encode(entries), table.concat(values, '\n'), cjson.encode(waiters_of(entries)),
        table.concat(flows, ' ')}
