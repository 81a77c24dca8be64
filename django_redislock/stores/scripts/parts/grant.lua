-- grant: handing a lock over to the first live waiter, put after parts/flow.lua.

-- Makes the first live waiter the owner and gives its token, or nothing.
local function hand_over()
  local waiter = call('LPOP', queue_key)
  if not waiter then
    return nil
  end
  -- include: now
  while waiter do
    -- include: turn
    if granted then
      return waiter, granted
    end
    waiter = call('LPOP', queue_key)
  end
end

-- Forgets what the token waits for, if its flow does not wait for something else by now.
local function stop_waiting()
  local entry = call('GET', wait_of(token))
  if entry and string.match(entry, '^%S+') == token then
    call('DEL', wait_of(token))
  end
end

-- Gives the key up: to the first live waiter, else to whoever comes.
local function free()
  if not hand_over() then
    call('DEL', lock_key)
    call('ZREM', held_key, lock_key)
  end
end
