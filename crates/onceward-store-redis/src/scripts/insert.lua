-- Keeps a record where none is. Gives {1, line}, {0, time, what is there} or {2, time} when it is late.
local time = now()
if late(time) then return {2, time} end
local found = redis.call('GET', KEYS[1])
if found then return {0, time, found} end
return {1, keep(time, nil)}
