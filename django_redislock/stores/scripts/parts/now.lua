-- now: the server's time in us, as digits: arithmetic takes them for a number.
local time = call('TIME')
local now = time[1] .. string.sub('00000' .. time[2], -6)
