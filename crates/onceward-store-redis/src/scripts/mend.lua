-- Makes what the indexes say of a record what the record says. ARGV: 1 id, 2 '1' when the record cannot be read: then
-- it waits for nothing. Needed after a record went by itself.
if redis.call('EXISTS', KEYS[1]) == 0 then
  remove()
  return 0
end
-- First taken away, then added: a full server does not refuse that.
for index = 3, 5 do redis.call('ZREM', KEYS[index], ARGV[1]) end
redis.call('ZADD', KEYS[2], 0, ARGV[1])
-- What is no record at all, like a list, may not even be looked at.
local head = ARGV[2] == '0' and parse(redis.call('GETRANGE', KEYS[1], 0, HEAD_BYTES))
if not head then return 0 end
place(KEYS[3], head.state == 'r' and ms(head.lease) or NEVER, false)
place(KEYS[4], head.wake == 'n' and NEVER or ms(head.wake), false)
place(KEYS[5], expires(head.state, ms(head.answer), ms(head.gone)), false)
return 1
