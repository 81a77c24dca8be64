-- several: what the verbs for several locks share, put after parts/lock.lua.
--
-- KEYS     of each lock its own key, of each its queue, of each bucket that they are in the held index; in a cluster
--          what never exists comes last, so that nothing is begun while the slot is on its way to another node
-- ARGV     1 token   2 for each lock a byte: the number of its bucket among these   3 as in parts/lock.lua
local keys, places = KEYS, name
if keys[#keys] == root .. ':absent' then
  table.remove(keys)
end
local mine = token .. ' '
local count = #places
local indexes = 2 * count
local byte, sub, min = string.byte, string.sub, math.min

-- Lua cannot pass more arguments than some thousands at once.
local MOST = 1000

local function is_mine(value)
  return value and sub(value, 1, #mine) == mine
end

-- The value of each lock, or false.
local function all_values()
  local values = call('MGET', unpack(keys, 1, min(MOST, count)))
  for from = MOST + 1, count, MOST do
    for _, value in ipairs(call('MGET', unpack(keys, from, min(from + MOST - 1, count)))) do
      values[#values + 1] = value
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

-- The name of a lock and the index that it is in: of <bucket>:lock:<name> that is <bucket>:held.
local function name_of(lock)
  local held = keys[indexes + byte(places, lock)]
  return sub(keys[lock], #held + 2), held
end

-- The names of locks by the number of their bucket, each after its score if there are scores.
local function by_bucket(locks, scores)
  local groups = {}
  for _, lock in ipairs(locks) do
    local place, plain = byte(places, lock), name_of(lock)
    local group = groups[place]
    if not group then
      groups[place] = scores and {scores[lock], plain} or {plain}
    else
      if scores then
        group[#group + 1] = scores[lock]
      end
      group[#group + 1] = plain
    end
  end
  return groups
end

-- Calls a command on a key with all of a list.
local function change(command, key, list)
  for from = 1, #list, MOST do
    call(command, key, unpack(list, from, min(from + MOST - 1, #list)))
  end
end

-- What the names begin with of all that is in the bucket of a lock.
local function bucket_of(lock)
  local _, held = name_of(lock)
  return sub(held, 1, -#'held' - 1)
end

-- The note of a release by a token.
local function note_of(lock, owner, what)
  return bucket_of(lock) .. 'released:' .. owner .. ':' .. what
end

local function taken_by_force(lock, owner)
  return call('GET', note_of(lock, owner, (name_of(lock)))) == '-2'
end

-- Points the functions of the other parts at one of the locks.
local function use(lock)
  lock_key, queue_key = keys[lock], keys[count + lock]
  name, held_key = name_of(lock)
  fence_key = bucket_of(lock) .. 'fence'
end
