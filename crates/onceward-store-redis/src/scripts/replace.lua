-- Swaps a record in on the revision seen. Gives {1, line}, {0, time, what is there or nil}, {2, time} when it is
-- late, or {3, time} when what is there cannot be read.
local time = now()
if late(time) then return {2, time} end
local stored = redis.call('GETRANGE', KEYS[1], 0, HEAD_BYTES)
if stored == '' then
  return {0, time, redis.call('GET', KEYS[1])}
end
local old = parse(stored)
if not old then return {3, time} end
if old.revision ~= ARGV[3] then
  return {0, time, redis.call('GET', KEYS[1])}
end
return {1, keep(time, old)}
