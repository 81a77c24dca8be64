-- leave_many: stop waiting for any of several keys, and give up those that the token holds.
--
-- KEYS     the keys of the locks
-- ARGV     1 token   2 nothing   3 root of all names
-- returns  1: the token neither waits for them nor holds them
-- include: lock grant several
local buckets, names, queues = read_keys(KEYS)
for index, value in ipairs(values_of(KEYS)) do
  use(KEYS[index], buckets[index], names[index], queues[index])
  call('LREM', queue_key, 1, token)
  call('HDEL', waiters_key, token)
  if is_mine(value) then
    free()
  end
end
call('DEL', root .. ':flow:' .. flow_of(token))
return 1
