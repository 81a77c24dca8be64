-- hand_over: giving a lock up, to the first live waiter.
--
-- A waiter is in the queue and has a record: ttl in ms, 1 if it holds other locks, wake-up channel, since in us, holder.
local bucket = string.sub(held_key, 1, -#'held' - 1)

local function record_of(waiter)
  return bucket .. 'waiter:' .. waiter
end

-- What a flow waits for that holds something: another root than the bucket's, for a cycle goes through many.
local function flow_key(owner)
  return string.match(bucket, '^(.*):{%d+}:$') .. ':flow:' .. string.sub(owner, 1, 16)
end

-- Wakes who is first in line if it would look only after the key's end: it looks after half its own ttl, or at the
-- end of whoever held the key when it asked.
local function warn_first(left)
  local first = call('LINDEX', queue_key, 0)
  local record = first and call('GET', record_of(first))
  if record then
    local ttl, channel = string.match(record, '^(%d+) %d (%S+) ')
    if left + 0 < ttl / 2 then
      call('PUBLISH', channel, first)
    end
  end
end

-- Makes the first live waiter the owner; gives its token and fence, or nothing.
local function hand_over()
  local waiter = call('LPOP', queue_key)
  while waiter do
    local record = call('GETDEL', record_of(waiter))
    if record then
      local ttl, nested, channel, holder = string.match(record, '^(%d+) (%d) (%S+) %d+ (.*)$')
      if nested == '1' then
        call('DEL', flow_key(waiter))
      end
      local fence = next_fence()
      -- PUBLISH tells how many hear it: nobody means that the process of this waiter is dead. Who asks lives.
      if waiter == token or call('PUBLISH', channel, waiter .. ' ' .. fence .. ' ' .. now) > 0 then
        hold('+', waiter, ttl, fence, now, holder)
        warn_first(ttl)
        return waiter, fence
      end
    end
    waiter = call('LPOP', queue_key)
  end
end

-- Gives the lock up: to the first live waiter, else to whoever comes.
local function free(mark)
  if mark == '-' or not hand_over() then
    call('HDEL', held_key, name)
  end
end
