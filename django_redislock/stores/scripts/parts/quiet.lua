-- quiet: making the token the owner where nothing is held in the bucket, as mostly, so that nothing needs to be looked
-- after: as parts/own.lua does it, but without functions, each of which costs time.
-- include: fence
call('SET', lock_key, token .. ' ' .. fence .. ' ' .. now .. ' ' .. holder, 'PX', ttl)
call('ZADD', held_key, string.sub(now, 1, -4) + ttl, name)
call('PEXPIRE', held_key, ttl)
