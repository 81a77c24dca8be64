-- own: making a token the owner of a lock, put after parts/lock.lua: where it is needed, since each function costs time
-- also where it is not called.

local function is_owner(value)
  return value and string.sub(value, 1, #token + 1) == token .. ' '
end

local function server_time()
  -- include: now
  return now
end

local function next_fence(hoped)
  -- include: fence
  return fence
end

-- Notes in the index that the key is held for a ttl from now. The index goes with its last lock.
local function note_held(now, ttl)
  local index_ttl = call('PTTL', held_key)
  call('ZADD', held_key, string.sub(now, 1, -4) + ttl, lock_key)
  if index_ttl < tonumber(ttl) then
    call('PEXPIRE', held_key, ttl)
  end
end

local function own(owner, fence, now, ttl, holder)
  call('SET', lock_key, owner .. ' ' .. fence .. ' ' .. now .. ' ' .. holder, 'PX', ttl)
  note_held(now, ttl)
end
