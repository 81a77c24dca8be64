-- force: take the key from whoever holds it, for the token of an operator, who gives it up with a release. In between it
-- is nobody's to enter, and the one who held it comes to know. A note tells that one; another one keeps a question that
-- was sent twice from taking the key away twice.
--
-- KEYS     1 to 4 as in parts/lock.lua   5 note of what was done for this question
-- ARGV     1 to 2 as in parts/lock.lua; the token begins with !, and is new for each question   3 ms for which that is
--          kept   4 ttl in ms   5 the fence of the owner who is meant, or nothing: whoever it is
-- returns  {fence, since in us, now in us, ttl left in ms, holder}     who held it   or   false
-- include: lock note
local done_key, done_ttl, ttl, meant = KEYS[5], ARGV[3], ARGV[4], ARGV[5]

-- include: now

local done = call('GET', done_key)
if not done then
  local value = call('GET', lock_key)
  if value and (string.sub(value, 1, 1) == '!' or meant ~= '' and meant ~= string.match(value, '^%S+ (%d+) ')) then
    value = nil -- it is another's by now, or being taken away already
  end
  local left = call('PTTL', lock_key)
  done = value and left .. ' ' .. value or ''
  call('SET', done_key, done, 'PX', done_ttl)
  if value then
    -- After that its deadline has told it already.
    call('SET', note_of(lock_key, string.match(value, '^%S+')), '-2', 'PX', math.max(1, left))
    call('SET', lock_key, token .. string.match(value, '^%S+(.*)$'), 'PX', ttl)
    -- include: index held
  end
end
if done == '' then
  return false
end
local left, fence, since, who = string.match(done, '^(%S+) %S+ (%d+) (%d+) (.*)$')
return {tonumber(fence), tonumber(since), tonumber(now), tonumber(left), who}
