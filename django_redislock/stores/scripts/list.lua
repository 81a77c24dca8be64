-- list: say what is held in a bucket, by whom, and who waits for it. No token is told.
--
-- KEYS     1 held index of the bucket
-- ARGV     1 queues: with everybody who waits; anything else: with their number   2 what the names of flows begin with
-- returns  {now in us, entries, values, waiters, flows}, all but the first in the same order. Entries and waiters are JSON:
--          name and expire in ms, by turns, and numbers or lists of {flow, since in us, holder}, or 0 where nobody
--          waits for any. Values have lines between: fence, since in us, and holder, or nothing for a lock that is
--          not there. Flows have spaces between, and come with the queues
--
-- There may be thousands: what is in the loop over their values counts.
local held_key = KEYS[1]
local with_queues, root = ARGV[1] == 'queues', ARGV[2]
local bucket = string.sub(held_key, 1, -6)

local MOST = 1000 -- Lua cannot pass more arguments than some thousands at once

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- The half of a token that says whose it is; the other half is the secret.
local function flow_of(token)
  return string.sub(token, 1, 16)
end

local function queue_of(name)
  local waiters = {}
  for index, token in ipairs(redis.call('LRANGE', bucket .. ':queue:' .. name, 0, -1)) do
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
    queues[#queues + 1] = bucket .. ':queue:' .. entries[index]
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
    waiters[index] = with_queues and number > 0 and queue_of(entries[2 * index - 1]) or number
  end
  return waiters
end

local call, find, sub = redis.call, string.find, string.sub
local lock_prefix = bucket .. ':lock:'
local values, flows, count = {}, {}, 0
local entries = call('ZRANGEBYSCORE', held_key, math.floor(now / 1000), '+inf', 'WITHSCORES')
for from = 1, #entries, 2 * MOST do
  local locks, number = {}, 0
  for index = from, math.min(from + 2 * MOST, #entries) - 1, 2 do
    number = number + 1
    locks[number] = lock_prefix .. entries[index]
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
return {now, cjson.encode(entries), table.concat(values, '\n'), cjson.encode(waiters_of(entries)),
        table.concat(flows, ' ')}
