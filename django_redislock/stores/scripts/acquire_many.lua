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
-- KEYS     as in parts/several.lua, in the order that counts
-- ARGV     1 to 2 as in parts/several.lua   3 ttl in ms   4 holder   5 wake-up channel, or nothing   6 all, line or free
--          7 the most that are taken
-- returns  {1, fence, fence, ...}       one for each key, 0 for one that was not taken; only one where all are new
--          {0, index, fence, since in us, now in us, ttl left in ms, holder, index, ...}     who holds which
--          {2, name, holder, ...}       waiting would never end: who holds what
-- include: several
local ttl, holder, channel, way, limit = ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])

-- include: now

-- So many are noted in the index one by one.
local FEW = 32

-- Makes the token the owner of a list of keys, and keeps those that it owns already for another ttl. Gives the fence of
-- the new ones; nothing where one of them is somebody's: of no more than MOST of them then none is taken.
local function take(new, number, kept)
  -- As in parts/fence.lua, but where nothing is taken nothing is written.
  local hoped, last = now, call('GET', fence_key)
  -- include: above
  local value = mine .. fence .. ' ' .. now .. ' ' .. holder
  for from = 1, number, MOST do
    local values, at = {}, 0
    for place = from, min(from + MOST - 1, number) do
      values[at + 1], values[at + 2] = new[place], value
      at = at + 2
    end
    if call('MSETNX', unpack(values)) == 0 then
      return nil
    end
  end
  call('SET', fence_key, fence)

  local expires, entries = string.format('%.0f', sub(now, 1, -4) + ttl), {}
  -- Redis keeps a small index as a list, and goes through it for each entry. One that is as long as this makes it a
  -- tree, and is tidied away below.
  local is_large = number + #kept > FEW
  if is_large then
    entries[1], entries[2] = '-inf', mine .. mine
  end
  local at = #entries
  for place = 1, number do
    local key = new[place]
    call('PEXPIRE', key, ttl)
    entries[at + 1], entries[at + 2] = expires, key
    at = at + 2
  end
  for _, key in ipairs(kept) do
    call('PEXPIRE', key, ttl)
    entries[at + 1], entries[at + 2] = expires, key
    at = at + 2
  end

  -- As in parts/held.lua and parts/tidy.lua.
  -- include: index
  change_held('ZADD', entries)
  if index_ttl < tonumber(ttl) then
    call('PEXPIRE', held_key, ttl)
  end
  if index_ttl ~= -2 or is_large then
    call('ZREMRANGEBYSCORE', held_key, '-inf', sub(now, 1, -4))
  end
  return tonumber(fence)
end

-- Mostly nobody waits for any of them, nor holds one. Where all are wanted, and are not too many, that is found out by
-- taking them.
local waits, number = somebody_waits(), min(count, limit)
if not waits and (number == count and count <= MOST or not is_any(1, count)) then
  local fence = take(keys, number, {})
  if fence then
    local reply = {1, fence}
    for lock = 2, number < count and count or 1 do
      reply[lock + 1] = lock <= number and fence or 0
    end
    return reply
  end
end

-- include: one flow grant queue
local values, chosen, busy = all_values(), {}, {}

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

-- Takes what was chosen, and gives the answer.
local function take_chosen()
  local reply, new, kept, fence = {1}, {}, {}, nil
  for _, lock in ipairs(chosen) do
    local list = values[lock] and kept or new
    list[#list + 1] = keys[lock]
  end
  if #chosen > 0 then
    fence = take(new, #new, kept)
  end
  for lock = 1, count do
    reply[lock + 1] = 0
  end
  for _, lock in ipairs(chosen) do
    reply[lock + 1] = values[lock] and tonumber(string.match(values[lock], '^%S+ (%d+) ')) or fence
  end
  return reply
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
  local taken = take_chosen()
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
