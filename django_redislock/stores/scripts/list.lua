-- list: say what is held in a bucket, by whom, and who waits for it. No token is told.
--
-- KEYS     1 held index of the bucket
-- ARGV     1 queues: with everybody who waits; anything else: with their number
-- returns  {now in us, names, expire in ms, values, waiters, flows}, all but the first in the same order. Names and
--          waiters are JSON; what expires when, and flows, have spaces between, and values lines. A value is fence, since
--          in us, and holder. Waiters are numbers, or lists of {flow, since in us, holder}; 0 for all where nobody
--          waits. Flows come with the queues
local held_key = KEYS[1]
local with_queues = ARGV[1] == 'queues'
local bucket = string.sub(held_key, 1, -6)

local MOST = 1000 -- Lua cannot pass more arguments than some thousands at once

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- The half of a token that says whose it is; the other half is the secret.
local function flow_of(token)
  return string.sub(token, 1, 16)
end

local function queue_of(name)
  local waiters, waiters_key = {}, bucket .. ':waiters:' .. name
  for index, token in ipairs(redis.call('LRANGE', bucket .. ':queue:' .. name, 0, -1)) do
    local entry = redis.call('HGET', waiters_key, token) or ''
    local since, holder = string.match(entry, '^%S+ %d+ (%d+) (.*)$')
    if since then
      waiters[#waiters + 1] = {flow_of(token), since, holder}
    end
  end
  return waiters
end

local function waiters_of(names)
  -- Who waits listens. Where nobody does, thousands of queues need not be looked for.
  if #redis.call('PUBSUB', 'CHANNELS', '*wake:*') + #redis.pcall('PUBSUB', 'SHARDCHANNELS', '*wake:*') == 0 then
    return 0
  end
  local queues = {}
  for index, name in ipairs(names) do
    queues[index] = bucket .. ':queue:' .. name
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
    waiters[index] = with_queues and number > 0 and queue_of(names[index]) or number
  end
  return waiters
end

local names, expire, values, flows = {}, {}, {}, {}
local entries = redis.call('ZRANGEBYSCORE', held_key, math.floor(now / 1000), '+inf', 'WITHSCORES')
for from = 1, #entries, 2 * MOST do
  local locks = {}
  for index = from, math.min(from + 2 * MOST, #entries) - 1, 2 do
    locks[#locks + 1] = bucket .. ':lock:' .. entries[index]
  end
  for index, value in ipairs(redis.call('MGET', unpack(locks))) do
    if value then -- the index may name what has been taken away by hand
      local place = #names + 1
      names[place], expire[place] = entries[from + 2 * index - 2], entries[from + 2 * index - 1]
      values[place] = string.sub(value, string.find(value, ' ', 1, true) + 1)
      if with_queues then
        flows[place] = flow_of(value)
      end
    end
  end
end
return {now, cjson.encode(names), table.concat(expire, ' '), table.concat(values, '\n'), cjson.encode(waiters_of(names)),
        table.concat(flows, ' ')}
