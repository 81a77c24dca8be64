-- turn: making a waiter the owner that was first in the queue, now, put after parts/flow.lua. `granted` is its fence, or
-- nothing: it does not live, or waits for something else by now.
local granted
local entry = call('GETDEL', wait_of(waiter))
local who, channel, ttl, holder = string.match(entry or '', '^(%S+) (%S+) (%d+) %d+ ([^\n]*)')
if who and who ~= waiter then
  -- What it waits for now, for as long as the queue of that is there.
  local there = string.match(entry, '\n(.*)$')
  local tag = string.find(there, '}', #root, true)
  local other_queue = string.sub(there, 1, tag) .. ':queue' .. string.sub(there, tag + #'}:lock')
  call('SET', wait_of(waiter), entry, 'PX', math.max(tonumber(ttl), call('PTTL', other_queue)))
elseif who then
  local owner, hoped = waiter, now
  -- include: fence
  -- PUBLISH tells how many hear it: nobody means that the process of this waiter is dead. Who asks lives.
  if waiter == token or publish(channel, waiter .. ' ' .. fence .. ' ' .. now) > 0 then
    granted = fence
    -- include: index owner
    warn_first(tonumber(ttl))
  end
end
