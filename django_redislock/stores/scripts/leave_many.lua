-- leave_many: stop waiting for any of several keys, and give up those that the token holds.
--
-- KEYS     as in parts/several.lua
-- ARGV     1 to 2 as in parts/several.lua
-- returns  1: the token neither waits for them nor holds them
-- include: several one flow grant
for lock, value in ipairs(all_values()) do
  use(lock)
  call('LREM', queue_key, 1, token)
  if is_mine(value) then
    free()
  end
end
stop_waiting()
return 1
