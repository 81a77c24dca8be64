-- flow: what is kept of those who wait, and how they are told, put after parts/lock.lua or parts/one.lua.

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
-- end of whoever held the key when it asked. The queue lives for longer than any half of a ttl in it.
local function warn_first(left)
  if call('PTTL', queue_key) <= left then
    return
  end
  local first = call('LINDEX', queue_key, 0)
  local entry = first and call('GET', wait_of(first))
  if entry then
    local channel, ttl = string.match(entry, '^%S+ (%S+) (%d+) ')
    if left < ttl / 2 then
      publish(channel, first)
    end
  end
end

