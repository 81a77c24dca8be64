-- several: what the verbs for several locks share, put after parts/lock.lua and parts/hand_over.lua. The names of the
-- locks come in groups, each of one bucket; all that is asked of a bucket is asked once for a group.
--
-- KEYS     for each group   1 held locks of its bucket   2 last fence of its bucket
-- ARGV     1 nothing   2 token   3 how many come before the sizes of the groups; after these come all the names
local ahead, groups = tonumber(ARGV[3]), math.floor(#KEYS / 2)
local behind = ahead + groups

local names, group_of, sizes = {}, {}, {}
for group = 1, groups do
  sizes[group] = tonumber(ARGV[ahead + group])
  for _ = 1, sizes[group] do
    local index = #names + 1
    names[index], group_of[index] = ARGV[behind + index], group
  end
end

-- What is held of each group; every name's value, or false.
local function values_of_all()
  local values, from = {}, behind + 1
  for group = 1, groups do
    local upto = from + sizes[group] - 1
    for _, value in ipairs(call('HMGET', KEYS[2 * group - 1], unpack(ARGV, from, upto))) do
      values[#values + 1] = value
    end
    from = upto + 1
  end
  return values
end

-- Points what is said in the other parts of one lock at the one with this number.
local function use(index)
  local group = group_of[index]
  name, held_key, fence_key = names[index], KEYS[2 * group - 1], KEYS[2 * group]
  bucket = string.sub(held_key, 1, -#'held' - 1)
  queue_key = bucket .. 'queue:' .. name
end

local function note_key()
  return bucket .. 'released:' .. token .. ':' .. name
end

local prefix = token .. ' '
-- Whether a value says that the token holds the lock, or for how long somebody holds it.
local function is_mine(value)
  return value and string.sub(value, 2, #prefix + 1) == prefix and string.match(value, ' (%d+)') + 0 > now_ms
end

local function is_held(value)
  return value and string.match(value, ' (%d+)') + 0 > now_ms
end
