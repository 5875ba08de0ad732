-- ARGV: 1 id, 2 not_after, 3 the revision seen, 4 owner of the grant or '', 5 '1' for a new life, 6 state,
-- 7 lease, 8 run_max, 9 retention, 10 tombstone, 11 wake_after or 'n', 12 the bytes.
-- Stamps what `Put::stamp` stamps, and keeps it. The old record, if any, is in `old_…`, as it is written in its line.
--
-- Every operation runs this twice, on the one thread that the server has. So there are no functions here, which would
-- be made anew by each call; what does not change stays the text that it is; and %d is exact, and cheaper than %.0f.
local format, state, now, stamp = string.format, ARGV[6], string.format('%d', time), time * 1024
local revision, fence, owner, attempt, created, run
if not old_revision then
  revision = format('%d', stamp)
  fence, owner, attempt, created = revision, '00000000000000000000000000000000', '0', now
else
  revision = format('%d', math.max(old_revision + 1, stamp))
  fence, owner, attempt, created, run = old_fence, old_owner, old_attempt, old_created, old_run
  if ARGV[5] == '1' then attempt, created = '0', now end
end
if ARGV[4] ~= '' then
  owner, attempt = ARGV[4], format('%d', math.min(attempt + 1, 4294967295))
  if old_revision then fence, run = format('%d', math.max(old_fence + 1, stamp)), nil end
end
if not run then run = ARGV[8] == '-' and '-' or format('%d', time + ARGV[8]) end

-- When the lease, the answer and the tombstone end; and when sweeping has something to do with it.
local lease, answer, gone, ends, gone_at = now, '-', '-', '-', nil
if state == 'r' then
  lease = run
  if ARGV[7] ~= '-' and (run == '-' or time + ARGV[7] < tonumber(run)) then lease = format('%d', time + ARGV[7]) end
elseif state == 'f' then
  answer, gone, gone_at, ends = now, now, time, format('%d', time + SETTLE)
elseif state ~= 'a' and ARGV[9] ~= '-' and ARGV[11] == 'n' then
  local answer_at = time + ARGV[9]
  answer = format('%d', answer_at)
  if ARGV[10] ~= '-' then
    gone_at = answer_at + ARGV[10]
    gone = format('%d', gone_at)
  end
  if state == 'd' then
    ends = answer
  elseif gone_at then
    ends = format('%d', gone_at + SETTLE)
  end
end
local wake = ARGV[11]
if wake ~= 'n' and wake ~= '-' then wake = format('%d', time + wake) end

-- Nothing is rolled back: so what adds to an index comes before what takes away from one, and the record comes last. An
-- index that has too much is mended when it is looked at. A full server refuses the first write or none: what ends
-- begins with one that it does not refuse.
if not old_revision then redis.call('ZADD', KEYS[2], '0', ARGV[1]) end
if ends ~= '-' then
  if old_revision then redis.call('ZREM', KEYS[5], ARGV[1]) end
  redis.call('ZADD', KEYS[5], ends, ARGV[1])
end
if wake ~= 'n' and wake ~= '-' then
  redis.call('ZADD', KEYS[4], wake, ARGV[1])
elseif old_revision and old_wake ~= 'n' then
  redis.call('ZREM', KEYS[4], ARGV[1])
end
if state == 'r' and lease ~= '-' then
  redis.call('ZADD', KEYS[3], lease, ARGV[1])
elseif old_state == 'r' then
  redis.call('ZREM', KEYS[3], ARGV[1])
end
if ends == '-' and old_revision and old_state ~= 'r' and old_state ~= 'a' then
  redis.call('ZREM', KEYS[5], ARGV[1])
end
local head = '1 ' .. revision .. ' ' .. fence .. ' ' .. owner .. ' ' .. attempt .. ' ' .. created .. ' ' .. run .. ' '
  .. now .. ' ' .. lease .. ' ' .. answer .. ' ' .. gone .. ' ' .. wake .. ' ' .. state .. '\n'
-- Unfinished records live for ever; others go by themselves long after a sweep would have taken them.
if gone_at then
  redis.call('SET', KEYS[1], head .. ARGV[12], 'PX', format('%d', math.max(gone_at + NET - time, NET)))
else
  redis.call('SET', KEYS[1], head .. ARGV[12])
end
