-- index: for how many ms the held index lives yet, or -2: there is none.
local index_ttl = call('PTTL', held_key)
