-- Makes what the indexes say of a record what the record says. ARGV: 1 id, 2 '1' when the record cannot be read: then
-- it waits for nothing. Needed after a record went by itself.
if redis.call('EXISTS', KEYS[1]) == 0 then
  remove()
  return 0
end
-- First taken away, then added: a full server does not refuse that.
for index = 3, 5 do redis.call('ZREM', KEYS[index], ARGV[1]) end
redis.call('ZADD', KEYS[2], '0', ARGV[1])
-- What is no record at all, like a list, may not even be looked at.
local line = ARGV[2] == '0' and head()
if not line then return 0 end
if line.state == 'r' then place(KEYS[3], ms(line.lease)) end
if line.wake ~= 'n' then place(KEYS[4], ms(line.wake)) end
place(KEYS[5], expires(line.state, ms(line.answer), ms(line.gone)))
return 1
