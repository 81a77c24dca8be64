-- tidy: entries of holders that vanished go when another one has come, put after parts/held.lua or parts/owner.lua: an
-- index that was empty in between would have lost its expiry.
if index_ttl ~= -2 then
  call('ZREMRANGEBYSCORE', held_key, '-inf', string.sub(now, 1, -4))
end
