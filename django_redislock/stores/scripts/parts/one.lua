-- one: pointing the parts that are about one lock at one of several, put after parts/several.lua and before them.
local lock_key, queue_key

local function use(lock)
  lock_key, queue_key = keys[lock], keys[count + lock]
end

