-- several: what the verbs for several locks share.
--
-- KEYS     of each lock its own key, of each its queue, then held index and fence as in parts/lock.lua; in a cluster
--          what never exists comes last, so that nothing is begun while the slot is on its way to another node
-- ARGV     1 to 2 as in parts/lock.lua
local keys = KEYS
local token, root = ARGV[1], ARGV[2]
local call, sub, min = redis.call, string.sub, math.min
if keys[#keys] == root .. ':absent' then
  table.remove(keys)
end
local held_key, fence_key = keys[#keys - 1], keys[#keys]
local mine = token .. ' '
local count = #keys / 2 - 1

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
  for at = from, to, MOST do
    if call('EXISTS', unpack(keys, at, min(at + MOST - 1, to))) > 0 then
      return true
    end
  end
  return false
end

local function somebody_waits()
  return is_any(count + 1, 2 * count)
end

-- Calls a command on the held index with all of a list.
local function change_held(command, list)
  for from = 1, #list, MOST do
    call(command, held_key, unpack(list, from, min(from + MOST - 1, #list)))
  end
end

-- include: note
local function taken_by_force(lock, owner)
  return call('GET', note_of(keys[lock], owner)) == '-2'
end
