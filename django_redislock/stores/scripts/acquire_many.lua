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
-- KEYS     the keys of the locks, in the order that counts
-- ARGV     1 token   2 nothing   3 root of all names   4 ttl in ms   5 holder   6 wake-up channel, or nothing
--          7 all, line or free   8 the most that are taken
-- returns  {1, fence, fence, ...}       one for each key; 0 for one that was not taken
--          {0, index, fence, since in us, now in us, ttl left in ms, holder, index, ...}     who holds which
--          {2, name, holder, ...}       waiting would never end: who holds what
-- include: lock grant queue several
local ttl, holder, channel, way, limit = ARGV[4], ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8])

local now = server_time()
local values = values_of(KEYS)
local buckets, names, queues = read_keys(KEYS)
local somebody_waits = count_existing(queues) > 0

-- The value of a lock after those who wait for it had their turn; false when it is free for us.
local function settled(index)
  if not values[index] and somebody_waits then
    use(KEYS[index], buckets[index], names[index], queues[index])
    if hand_over() then
      values[index] = call('GET', KEYS[index])
    end
  end
  return values[index]
end

local function is_anothers(index)
  local value = settled(index)
  return value and not is_mine(value)
end

local function refusal(reply, index)
  local _, fence, since, who = string.match(values[index], '^(%S+) (%d+) (%d+) (.*)$')
  local left = call('PTTL', KEYS[index])
  for _, part in ipairs({index, tonumber(fence), tonumber(since), tonumber(now), left, who}) do
    reply[#reply + 1] = part
  end
end

-- Makes the token the owner of the chosen locks, those that it owns already for another ttl. Gives their fences.
local function take(chosen)
  local indexed, held_keys, fence_keys, fences = {}, {}, {}, {}
  local now_ms = string.sub(now, 1, -4)
  local expires = string.format('%.0f', now_ms + ttl)
  for _, index in ipairs(chosen) do
    local bucket = buckets[index]
    local entries = indexed[bucket]
    if not entries then
      entries = {}
      indexed[bucket] = entries
      held_keys[#held_keys + 1], fence_keys[#fence_keys + 1] = bucket .. ':held', bucket .. ':fence'
    end
    entries[#entries + 1] = expires
    entries[#entries + 1] = names[index]
  end

  -- One number above all that any of these buckets has given, for each lock one more.
  local fence = now - 1
  for _, last in ipairs(values_of(fence_keys)) do
    fence = math.max(fence, tonumber(last or 0))
  end
  local tail = ' ' .. now .. ' ' .. holder
  for _, index in ipairs(chosen) do
    if values[index] then
      fences[index] = tonumber(string.match(values[index], '^%S+ (%d+) '))
      call('PEXPIRE', KEYS[index], ttl)
    else
      fence = fence + 1
      fences[index] = fence
      call('SET', KEYS[index], mine .. string.format('%.0f', fence) .. tail, 'PX', ttl)
    end
  end
  local set = {}
  local fence_text = string.format('%.0f', fence)
  for _, key in ipairs(fence_keys) do
    set[#set + 1] = key
    set[#set + 1] = fence_text
  end
  in_portions(set, function(...) call('MSET', ...) end)

  -- As in parts/lock.lua.
  local is_used = count_existing(held_keys) > 0
  for bucket, entries in pairs(indexed) do
    local held = bucket .. ':held'
    local index_ttl = is_used and call('PTTL', held) or -2
    in_portions(entries, function(...) call('ZADD', held, ...) end)
    if index_ttl ~= -2 then
      call('ZREMRANGEBYSCORE', held, '-inf', now_ms)
    end
    if index_ttl < tonumber(ttl) then
      call('PEXPIRE', held, ttl)
    end
  end
  return fences
end

local chosen, busy = {}, {}
local function choose(index)
  if #chosen < limit then
    chosen[#chosen + 1] = index
  end
end

if way == 'free' then
  -- What was taken before counts first: sent twice, it is answered twice alike.
  for index = 1, #KEYS do
    if values[index] and is_mine(values[index]) then
      choose(index)
    end
  end
end
for index = 1, #KEYS do
  if way == 'line' and #busy > 0 then
    if values[index] and is_mine(values[index]) then
      use(KEYS[index], buckets[index], names[index], queues[index])
      free()
    end
  elseif is_anothers(index) then
    busy[#busy + 1] = index
  elseif way ~= 'free' or not values[index] then
    choose(index)
  end
end

local fences = {}
if #chosen > 0 and (way ~= 'all' or #busy == 0) then
  fences = take(chosen)
end
if way == 'free' or #busy == 0 then
  local reply = {1}
  for index = 1, #KEYS do
    reply[index + 1] = fences[index] or 0
  end
  return reply
end
if channel ~= '' then
  local index = busy[1]
  use(KEYS[index], buckets[index], names[index], queues[index])
  local edges = line_up(values[index], now, ttl, holder, channel)
  if edges then
    return edges
  end
end
local reply = {0}
for _, index in ipairs(busy) do
  refusal(reply, index)
end
return reply
