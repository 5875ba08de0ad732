-- Swaps a record in on the revision seen. Gives the line, {0, time, what is there or nil}, {2, time} when it is late,
-- or {3, time} when what is there cannot be read.
if ARGV[2] ~= '-' and time > tonumber(ARGV[2]) then return {2, time} end
local stored = redis.call('GETRANGE', KEYS[1], '0', '320')
if stored == '' then return {0, time, redis.call('GET', KEYS[1])} end
local old_revision, old_fence, old_owner, old_attempt, old_created, old_run, old_wake, old_state = string.match(stored,
  '^1 (%d+) (%d+) (%x+) (%d+) (%d+) (%S+) %d+ %S+ %S+ %S+ (%S+) ([rafdt])\n')
-- Longer numbers are none of ours, and could not be counted with.
if not old_revision or #old_revision > 16 or #old_fence > 16 then return {3, time} end
if old_revision ~= ARGV[3] then return {0, time, redis.call('GET', KEYS[1])} end
