-- A run has ended: whoever waits for that elsewhere may look. Nobody relies on it, so what the server says to it does not
-- matter: a user may be forbidden to. Where nobody listens nothing is sent, to replicas neither.
if old_state == 'r' and state ~= 'r' then
  local listen = redis.pcall('PUBSUB', SHARDED and 'SHARDNUMSUB' or 'NUMSUB', KEYS[1])
  if listen[2] and listen[2] ~= 0 then redis.pcall(SHARDED and 'SPUBLISH' or 'PUBLISH', KEYS[1], '') end
end
