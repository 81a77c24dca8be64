-- quiet: making the token the owner of a lock that nobody holds or waits for, as mostly: as parts/own.lua does it, but
-- without functions, each of which costs time also where it is not called.
-- include: fence
call('SET', lock_key, token .. ' ' .. fence .. ' ' .. now .. ' ' .. holder, 'PX', ttl)
local index_ttl = call('PTTL', held_key)
call('ZADD', held_key, string.sub(now, 1, -4) + ttl, lock_key)
if index_ttl < tonumber(ttl) then
  call('PEXPIRE', held_key, ttl)
end
if index_ttl ~= -2 then
  -- Entries of holders that vanished go when another one has come: an index that was empty in between would have lost
  -- its expiry.
  call('ZREMRANGEBYSCORE', held_key, '-inf', string.sub(now, 1, -4))
end
