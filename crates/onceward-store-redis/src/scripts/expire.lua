-- What a sweep does with a record, on the revision that it looked at. ARGV: 1 id, 2 that revision, 3 the tombstone
-- to keep, or '' to remove the record. Gives 1 when it did, 0 when the record is another one by now.
local old = head()
if not old or old.revision ~= ARGV[2] then return 0 end
if ARGV[3] == '' then
  remove()
else
  local new = parse(ARGV[3])
  -- A full server refuses to add before something was taken away; and a sweep must go on there.
  redis.call('ZREM', KEYS[5], ARGV[1])
  place(KEYS[5], expires(new.state, ms(new.answer), ms(new.gone)))
  if new.gone == '-' then
    redis.call('SET', KEYS[1], ARGV[3])
  else
    redis.call('SET', KEYS[1], ARGV[3], 'PX', string.format('%d', math.max(new.gone + NET - time, NET)))
  end
end
return 1
