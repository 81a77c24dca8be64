-- note: where it is kept that a token has a lock no more, put after parts/lock.lua or parts/several.lua.

local function note_of(key, owner)
  local tag = string.find(key, '}', #root, true)
  return string.sub(key, 1, tag) .. ':released:' .. owner .. string.sub(key, tag + #'}:lock')
end

