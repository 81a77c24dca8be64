-- several: what the verbs for several locks share, put after those. They get the keys of the locks only, of
-- as many buckets as there are, and read from these the names of the rest. In a cluster what never exists is named last,
-- so that nothing is begun while the slot is on its way to another node.
if KEYS[#KEYS] == root .. ':absent' then
  table.remove(KEYS)
end

local mine = token .. ' '

local function is_mine(value)
  return value and string.sub(value, 1, #mine) == mine
end

-- Lua cannot pass more arguments than some thousands at once.
local MOST = 1000

-- Calls fn with all of the list, as much at once as Lua can pass; gives the sum of what it gives, if anything.
local function in_portions(list, fn)
  local sum = 0
  for from = 1, #list, MOST do
    local number = fn(unpack(list, from, math.min(from + MOST - 1, #list)))
    sum = sum + (number or 0)
  end
  return sum
end

local function values_of(keys)
  local values = {}
  in_portions(keys, function(...)
    for _, value in ipairs(call('MGET', ...)) do
      values[#values + 1] = value
    end
  end)
  return values
end

local function count_existing(keys)
  return in_portions(keys, function(...) return call('EXISTS', ...) end)
end

-- What the keys of the locks say: their buckets' beginnings, their names, their queues.
local function read_keys(keys)
  local buckets, names, queues = {}, {}, {}
  local begins = #root + 2
  local one_bucket = string.sub(root, -1) == '}' and #root
  for index, key in ipairs(keys) do
    local ends = one_bucket or string.find(key, '}', begins, true)
    local bucket, plain = string.sub(key, 1, ends), string.sub(key, ends + 7)
    buckets[index], names[index], queues[index] = bucket, plain, bucket .. ':queue:' .. plain
  end
  return buckets, names, queues
end

-- Points the functions of those before at one of the locks.
local function use(key, bucket, plain, queue)
  lock_key, name, queue_key = key, plain, queue
  held_key, fence_key, waiters_key = bucket .. ':held', bucket .. ':fence', bucket .. ':waiters:' .. plain
end
