-- list: say what is held in a bucket, by whom, and who waits for it. No token is told.
--
-- KEYS     1 held index of the bucket
-- ARGV     1 queues: with everybody who waits; anything else: with their number
-- returns  as JSON {now in us, {{name, expires in ms, fence, since in us, holder, flow, waiters}, ...}}; waiters is their
--          number, or {{flow, since in us, holder}, ...} in order. Numbers of more than 14 digits are text
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

local function queue_of(name, queue_key)
  local waiters, waiters_key = {}, bucket .. ':waiters:' .. name
  for index, token in ipairs(redis.call('LRANGE', queue_key, 0, -1)) do
    local entry = redis.call('HGET', waiters_key, token) or ''
    local since, holder = string.match(entry, '^%S+ %d+ (%d+) (.*)$')
    if since then
      waiters[#waiters + 1] = {flow_of(token), since, holder}
    end
  end
  return waiters
end

local rows = {}
local function add(name, expires, value)
  local queue_key = bucket .. ':queue:' .. name
  local token, fence, since, holder = string.match(value, '^(%S+) (%d+) (%d+) (.*)$')
  local waiters = redis.call('LLEN', queue_key)
  if with_queues then
    waiters = waiters > 0 and queue_of(name, queue_key) or 0
  end
  rows[#rows + 1] = {name, expires, fence, since, holder, with_queues and flow_of(token) or '', waiters}
end

local entries = redis.call('ZRANGEBYSCORE', held_key, math.floor(now / 1000), '+inf', 'WITHSCORES')
for from = 1, #entries, 2 * MOST do
  local locks = {}
  for index = from, math.min(from + 2 * MOST, #entries) - 1, 2 do
    locks[#locks + 1] = bucket .. ':lock:' .. entries[index]
  end
  for index, value in ipairs(redis.call('MGET', unpack(locks))) do
    if value then -- the index may name what has been taken away by hand
      add(entries[from + 2 * index - 2], entries[from + 2 * index - 1], value)
    end
  end
end
return cjson.encode({string.format('%.0f', now), rows})
