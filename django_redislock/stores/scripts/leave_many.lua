-- leave_many: stop waiting for any of several keys, and give up those that the token holds.
--
-- KEYS     as in parts/several.lua
-- ARGV     1 to 3 as in parts/several.lua
-- returns  1: the token neither waits for them nor holds them
-- include: lock
-- include: hand_over
-- include: several
for index, value in ipairs(values_of_all()) do
  use(index)
  call('LREM', queue_key, 1, token)
  call('DEL', record_of(token))
  if is_mine(value) then
    free(string.sub(value, 1, 1))
  end
end
call('DEL', flow_key(token))
return 1
