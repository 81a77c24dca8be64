-- grant: handing a lock over to the first live waiter, put after parts/own.lua.

local function flow_of(owner)
  return string.sub(owner, 1, 16)
end

-- Where it is kept what a flow waits for: token, wake-up channel, ttl in ms, since in us and holder with a space between,
-- then after a line feed the key of the lock.
local function wait_of(owner)
  return root .. ':flow:' .. flow_of(owner)
end

-- Tells how many hear it. The channel of somebody who waits in a cluster is in the slot of the bucket: its name says so.
-- A server that knows no such channels has been subscribed to in the other way.
local function publish(channel, message)
  if string.find(channel, '}:wake:', 1, true) then
    local heard = redis.pcall('SPUBLISH', channel, message)
    if type(heard) == 'number' then
      return heard
    end
  end
  return call('PUBLISH', channel, message)
end

-- Wakes who is first in line if it would look only after the key's end: it looks after half its own ttl, or at the
-- end of whoever held the key when it asked.
local function warn_first(left)
  local first = call('LINDEX', queue_key, 0)
  local entry = first and call('GET', wait_of(first))
  if entry then
    local channel, ttl = string.match(entry, '^%S+ (%S+) (%d+) ')
    if left < ttl / 2 then
      publish(channel, first)
    end
  end
end

-- Makes the first live waiter the owner and gives its token, or nothing. Who has taken the first one from the queue says
-- who that is.
local function hand_over(waiter)
  waiter = waiter or call('LPOP', queue_key)
  local now = waiter and server_time()
  while waiter do
    local entry = call('GETDEL', wait_of(waiter))
    local who, channel, ttl, holder = string.match(entry or '', '^(%S+) (%S+) (%d+) %d+ ([^\n]*)')
    if who and who ~= waiter then
      call('SET', wait_of(waiter), entry, 'PX', ttl) -- by now the flow waits for something else
    elseif who then
      local fence = next_fence(now)
      -- PUBLISH tells how many hear it: nobody means that the process of this waiter is dead. Who asks lives.
      if waiter == token or publish(channel, waiter .. ' ' .. fence .. ' ' .. now) > 0 then
        own(waiter, fence, now, ttl, holder)
        warn_first(tonumber(ttl))
        return waiter, fence
      end
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

-- Gives the key up: to the first live waiter, else to whoever comes. As hand_over().
local function free(waiter)
  if not hand_over(waiter) then
    call('DEL', lock_key)
    call('ZREM', held_key, lock_key)
  end
end
