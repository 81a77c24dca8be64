-- sitting: whether this node of a quorum may vote, put after parts/grant.lua. One that has lost votes might give them
-- twice, so it sits out until all leases of before are over.
--
-- The marker is '<run id> <end in ms>': in which run of the server, and until when it sits out. Where it is missing the
-- data was lost; where it names another run the server has restarted, and may have lost what it wrote last.

-- Milliseconds for which it sits out yet, and their end.
local function sits_out(marker_key, run, guard, now_ms)
  local last_run, ends = string.match(call('GET', marker_key) or '', '^(%S+) (%d+)$')
  ends = tonumber(ends)
  if not ends or (run ~= '-' and run ~= last_run) or ends > now_ms + guard then
    ends = now_ms + guard
    call('SET', marker_key, run .. ' ' .. string.format('%.0f', ends))
  end
  return math.max(0, ends - now_ms), ends
end

