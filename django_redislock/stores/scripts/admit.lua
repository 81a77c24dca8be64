-- admit: let a node of a quorum vote earlier, for it is known how long it has lost nothing.
--
-- KEYS     1 marker of the node
-- ARGV     1 run id of the server   2 the end that was said, in ms   3 ms for which it has lost nothing   4 guard time in ms
-- returns  ms for which it sits out yet
local marker_key = KEYS[1]
local run, said, kept, guard = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
-- Another marker than the one that was seen: the node has lost its data since.
if redis.call('GET', marker_key) ~= run .. ' ' .. said then
  return guard
end
local ends = math.min(tonumber(said), now_ms - kept + guard)
redis.call('SET', marker_key, run .. ' ' .. string.format('%.0f', ends))
return math.max(0, ends - now_ms)
