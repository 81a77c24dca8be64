-- held: noting in the index that a lock is held for a ttl from now, put after parts/index.lua. The index goes with its
-- last lock.
call('ZADD', held_key, string.sub(now, 1, -4) + ttl, lock_key)
if index_ttl < tonumber(ttl) then
  call('PEXPIRE', held_key, ttl)
end
