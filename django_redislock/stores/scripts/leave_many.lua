-- leave_many: stop waiting for any of several keys, and give up those that the token holds.
--
-- KEYS     as in parts/several.lua
-- ARGV     1 token   2 buckets of the locks   3 root of all names
-- returns  1: the token neither waits for them nor holds them
-- include: lock own grant several
for lock, value in ipairs(all_values()) do
  use(lock)
  call('LREM', queue_key, 1, token)
  if is_mine(value) then
    free()
  end
end
stop_waiting()
return 1
