-- Keeps a record where none is. Gives the line, {0, time, what is there} or {2, time} when it is late.
if ARGV[2] ~= '-' and time > tonumber(ARGV[2]) then return {2, time} end
local found = redis.call('GET', KEYS[1])
if found then return {0, time, found} end
local old_revision, old_fence, old_owner, old_attempt, old_created, old_run, old_wake, old_state
