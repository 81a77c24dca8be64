-- above: the fence that comes after the last one, the hoped for one if it can be.
local fence = hoped
if last and tonumber(last) >= tonumber(hoped) then
  fence = string.format('%.0f', last + 1)
end
