-- owner: making somebody the owner of a lock, with a fence and for a ttl from now, put after parts/index.lua.
call('SET', lock_key, owner .. ' ' .. fence .. ' ' .. now .. ' ' .. holder, 'PX', ttl)
-- include: held
