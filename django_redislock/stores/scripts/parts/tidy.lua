-- tidy: entries of holders that vanished go when another one has come: an index that was empty in between would have
-- lost its expiry.
call('ZREMRANGEBYSCORE', held_key, '-inf', string.sub(now, 1, -4))
