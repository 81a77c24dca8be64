-- acquire_many: take several free keys for a token, in one of three ways, or say who holds what.
--
--   all    all of them or none
--   line   one after the other up to the first that is somebody's; join its queue if a wake-up channel is given. So
--          one that waits holds only what comes before, in the one order of all
--   free   those that are free, up to a limit
--
-- Those that the token holds already count as taken and are kept for another ttl, but in line those after the one that
-- it waits for: they are given back.
--
-- KEYS     as in parts/several.lua, in the order that counts, then of each bucket the fence
-- ARGV     1 token   2 buckets of the locks   3 root of all names   4 ttl in ms   5 holder   6 wake-up channel, or
--          nothing   7 all, line or free   8 the most that are taken
-- returns  {1, fence, fence, ...}       one for each key; 0 for one that was not taken
--          {0, index, fence, since in us, now in us, ttl left in ms, holder, index, ...}     who holds which
--          {2, name, holder, ...}       waiting would never end: who holds what
-- include: lock own several
local ttl, holder, channel, way, limit = ARGV[4], ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8])

local buckets = (#keys - indexes) / 2
local now = server_time()
local format = string.format
-- For a whole number; the quicker one, if it takes such as are as long as a fence: on a server of 32 bits it does not.
local digits = format('%d', 2 ^ 53) == '9007199254740992' and '%d' or '%.0f'

-- Makes the token the owner of the chosen locks, those that it owns already for another ttl. Gives the answer.
local function take(chosen, values)
  local reply = {1}
  for lock = 1, count do
    reply[lock + 1] = 0
  end
  if #chosen == 0 then
    return reply
  end

  -- One number above all that any of these buckets has given, for each lock one more.
  local fence = now - 1
  for _, last in ipairs(call('MGET', unpack(keys, indexes + buckets + 1))) do
    if last and tonumber(last) > fence then
      fence = tonumber(last)
    end
  end
  local now_ms = sub(now, 1, -4)
  local expires, expiries = format('%.0f', now_ms + ttl), {}
  local tail = ' ' .. now .. ' ' .. holder
  for _, lock in ipairs(chosen) do
    local value = values[lock]
    expiries[lock] = expires
    if value then
      reply[lock + 1] = tonumber(string.match(value, '^%S+ (%d+) '))
      call('PEXPIRE', keys[lock], ttl)
    else
      fence = fence + 1
      reply[lock + 1] = fence
      call('SET', keys[lock], mine .. format(digits, fence) .. tail, 'PX', ttl)
    end
  end
  local set, last = {}, format('%.0f', fence)
  for place = 1, buckets do
    set[2 * place - 1], set[2 * place] = keys[indexes + buckets + place], last
  end
  call('MSET', unpack(set))

  -- As in parts/own.lua.
  local is_used = is_any(indexes + 1, indexes + buckets)
  for place, entries in pairs(by_bucket(chosen, expiries)) do
    local held = keys[indexes + place]
    local index_ttl = is_used and call('PTTL', held) or -2
    change('ZADD', held, entries)
    if index_ttl ~= -2 then
      call('ZREMRANGEBYSCORE', held, '-inf', now_ms)
    end
    if index_ttl < tonumber(ttl) then
      call('PEXPIRE', held, ttl)
    end
  end
  return reply
end

local chosen = {}

-- Mostly nobody holds any of them, nor waits for one.
if not is_any(1, 2 * count) then
  for lock = 1, min(count, limit) do
    chosen[lock] = lock
  end
  return take(chosen, {})
end

-- include: grant queue
local values, waits, busy = all_values(), somebody_waits(), {}

local function choose(lock)
  if #chosen < limit then
    chosen[#chosen + 1] = lock
  end
end

-- The value of a lock after those who wait for it had their turn; false when it is free for us.
local function settled(lock)
  if not values[lock] and waits then
    use(lock)
    if hand_over() then
      values[lock] = call('GET', lock_key)
    end
  end
  return values[lock]
end

local function is_anothers(lock)
  local value = settled(lock)
  return value and not is_mine(value)
end

local function refusal(reply, lock)
  local _, fence, since, who = string.match(values[lock], '^(%S+) (%d+) (%d+) (.*)$')
  local left = call('PTTL', keys[lock])
  for _, part in ipairs({lock, tonumber(fence), tonumber(since), tonumber(now), left, who}) do
    reply[#reply + 1] = part
  end
end

if way == 'free' then
  -- What was taken before counts first: sent twice, it is answered twice alike.
  for lock = 1, count do
    if values[lock] and is_mine(values[lock]) then
      choose(lock)
    end
  end
end
for lock = 1, count do
  if way == 'line' and #busy > 0 then
    if values[lock] and is_mine(values[lock]) then
      use(lock)
      free()
    end
  elseif is_anothers(lock) then
    busy[#busy + 1] = lock
  elseif way ~= 'free' or not values[lock] then
    choose(lock)
  end
end

if way ~= 'all' or #busy == 0 then
  local taken = take(chosen, values)
  if way == 'free' or #busy == 0 then
    return taken
  end
end
if channel ~= '' then
  use(busy[1])
  local edges = line_up(values[busy[1]], now, ttl, ttl, holder, channel)
  if edges then
    return edges
  end
end
local reply = {0}
for _, lock in ipairs(busy) do
  refusal(reply, lock)
end
return reply
