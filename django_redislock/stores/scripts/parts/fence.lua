-- fence: the next one of the bucket, the hoped for one if it can be. It grows although the store was flushed or restored
-- (what is hoped for is the time or more), and although the clock was set back (the last one).
local last = call('SET', fence_key, hoped, 'GET')
-- include: above
if fence ~= hoped then
  call('SET', fence_key, fence)
end
