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
-- KEYS     as in parts/several.lua
-- ARGV     1 to 3 as in parts/several.lua   4 ttl in ms   5 holder   6 wake-up channel, or nothing   7 all, line or free
--          8 the most that are taken
-- returns  fence                        all are the token's, newly, with this fence
--          {1, fence, fence, ...}       one for each key; 0 for one that was not taken
--          {0, now in us, index, 'end in ms, fence, since in us, holder', index, ...}     who holds which
--          {2, name, holder, ...}       waiting would never end: who holds what
-- include: lock
local ttl, holder, channel, way, limit = ARGV[4], ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8])
-- include: hand_over
-- include: several
-- include: queue
local values = values_of_all()

-- Whether somebody else holds it, after those who wait for it had their turn.
local function is_anothers(index)
  local value = values[index]
  if not value or is_mine(value) then
    return false
  end
  if not is_held(value) then
    use(index)
    values[index] = string.sub(value, 1, 1) == '+' and hand_over() and call('HGET', held_key, name)
  end
  return values[index] and not is_mine(values[index])
end

-- Makes the token the owner of the chosen locks, those that it owns already for another ttl. Gives the new fence.
local function take(chosen)
  -- One number above all that any of these buckets has given.
  local fence_keys, fence = {}, now
  for group = 1, groups do
    fence_keys[group] = KEYS[2 * group]
  end
  for _, last in ipairs(call('MGET', unpack(fence_keys))) do
    if last and last + 0 >= fence + 0 then
      fence = string.format('%.0f', last + 1)
    end
  end
  local ends = now_ms + ttl
  local fresh = '-' .. token .. ' ' .. ends .. ' ' .. fence .. ' ' .. now .. ' ' .. holder
  local pairs_of = {}
  for _, index in ipairs(chosen) do
    local group, value = group_of[index], values[index]
    local entries = pairs_of[group]
    if not entries then
      entries = {}
      pairs_of[group] = entries
    end
    local size = #entries
    entries[size + 1] = names[index]
    entries[size + 2] = value and string.gsub(value, ' %d+', ' ' .. ends, 1) or fresh
  end
  local fences = {}
  for group, entries in pairs(pairs_of) do
    local held = KEYS[2 * group - 1]
    call('HSET', held, unpack(entries))
    if call('PTTL', held) < ttl + 0 then
      call('PEXPIRE', held, ttl)
    end
    fences[#fences + 1] = KEYS[2 * group]
    fences[#fences + 1] = fence
  end
  call('MSET', unpack(fences))
  return tonumber(fence)
end

local chosen, busy, had = {}, {}, false
local function choose(index)
  if #chosen < limit then
    chosen[#chosen + 1] = index
  end
end

if way == 'free' then
  -- What was taken before counts first: sent twice, it is answered twice alike.
  for index = 1, #names do
    if is_mine(values[index]) then
      choose(index)
    end
  end
end
for index = 1, #names do
  local mine = values[index] and is_mine(values[index])
  had = had or mine
  if way == 'line' and #busy > 0 then
    if mine then
      use(index)
      free(string.sub(values[index], 1, 1))
    end
  elseif not mine and is_anothers(index) then
    busy[#busy + 1] = index
  elseif way ~= 'free' or not mine then
    choose(index)
  end
end

local fence
if #chosen > 0 and (way ~= 'all' or #busy == 0) then
  fence = take(chosen)
end
if way == 'free' or #busy == 0 then
  if not had and #chosen == #names then
    return fence
  end
  local reply = {1}
  for index = 1, #names do
    reply[index + 1] = 0
  end
  for _, index in ipairs(chosen) do
    local value = values[index]
    reply[index + 1] = value and tonumber(string.match(value, '^%S+ %d+ (%d+)')) or fence
  end
  return reply
end
if channel ~= '' then
  use(busy[1])
  local edges = line_up(values[busy[1]], ttl, holder, channel, '1')
  if edges then
    return edges
  end
end
local reply = {0, now}
for _, index in ipairs(busy) do
  reply[#reply + 1] = index
  reply[#reply + 1] = string.match(values[index], '^%S+ (.*)$')
end
return reply
