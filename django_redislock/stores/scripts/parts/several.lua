-- several: what the verbs for several locks share, put after parts/lock.lua.
--
-- KEYS     of each lock its own key, of each its queue, of each bucket that they are in the held index, of each the fence
-- ARGV     1 token   2 for each lock a byte: the number of its bucket among these   3 as in parts/lock.lua
local keys, places = KEYS, name
local mine = token .. ' '
local count = #places
local indexes = 2 * count
local buckets = (#keys - indexes) / 2
local byte, sub, min = string.byte, string.sub, math.min

-- Lua cannot pass more arguments than some thousands at once.
local MOST = 1000

local function is_mine(value)
  return value and sub(value, 1, #mine) == mine
end

-- The value of each lock, or false.
local function all_values()
  local values = {}
  for from = 1, count, MOST do
    for index, value in ipairs(call('MGET', unpack(keys, from, min(from + MOST - 1, count)))) do
      values[from + index - 1] = value
    end
  end
  return values
end

-- Whether any of the keys from one to another is there.
local function is_any(from, to)
  local found = 0
  for at = from, to, MOST do
    found = found + call('EXISTS', unpack(keys, at, min(at + MOST - 1, to)))
  end
  return found > 0
end

local function somebody_waits()
  return is_any(count + 1, 2 * count)
end

local function index_of(lock)
  return keys[indexes + byte(places, lock)]
end

-- Of <bucket>:lock:<name>, where the index is <bucket>:held.
local function name_of(lock)
  return sub(keys[lock], #index_of(lock) + 2)
end

-- Changes the index of each bucket by one command, which takes the names of the locks, each after its score if it has
-- one. Gives the ttl of the index, -2 where there was none before, to a function that looks after it.
local function by_bucket(locks, score_of)
  local groups = {}
  for _, lock in ipairs(locks) do
    local place = byte(places, lock)
    local group = groups[place]
    if not group then
      group = {}
      groups[place] = group
    end
    if score_of then
      group[#group + 1] = score_of(lock)
    end
    group[#group + 1] = name_of(lock)
  end
  return groups
end

local function change(command, key, list)
  for from = 1, #list, MOST do
    call(command, key, unpack(list, from, min(from + MOST - 1, #list)))
  end
end

-- Points the functions of parts/lock.lua at one of the locks.
local function use(lock)
  lock_key, queue_key, name, held_key = keys[lock], keys[count + lock], name_of(lock), index_of(lock)
  fence_key = keys[indexes + buckets + byte(places, lock)]
  waiters_key = sub(held_key, 1, -#'held' - 1) .. 'waiters:' .. name
end
