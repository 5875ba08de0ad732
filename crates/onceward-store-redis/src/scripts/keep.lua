-- ARGV: 1 id, 2 not_after, 3 the revision seen, 4 owner of the grant or '', 5 '1' for a new life, 6 state,
-- 7 lease, 8 run_max, 9 retention, 10 tombstone, 11 wake_after or 'n', 12 the bytes.
-- Stamps what `Put::stamp` stamps, and keeps it.
local function keep(time, old)
  local state, stamp = ARGV[6], time * 1024
  local granted, new_life = ARGV[4] ~= '', ARGV[5] == '1'
  local revision, fence, owner, attempt, created, run = stamp, stamp, string.rep('0', 32), 0, time, nil
  if old then
    revision = math.max(tonumber(old.revision) + 1, stamp)
    if granted then
      fence = math.max(tonumber(old.fence) + 1, stamp)
    else
      fence, owner, run = tonumber(old.fence), old.owner, ms(old.run)
    end
    if not new_life then attempt, created = tonumber(old.attempt), tonumber(old.created) end
  end
  if granted then
    owner, attempt = ARGV[4], math.min(attempt + 1, 4294967295)
  end
  run = run or time + ms(ARGV[8])
  local lease, answer, gone = time, NEVER, NEVER
  if state == 'r' then
    lease = math.min(time + ms(ARGV[7]), run)
  elseif state == 'f' then
    answer, gone = time, time
  elseif state == 'd' or state == 't' then
    answer = time + ms(ARGV[9])
    gone = answer + ms(ARGV[10])
  end
  local wake, wakes = 'n', NEVER
  if ARGV[11] ~= 'n' then
    wakes = time + ms(ARGV[11])
    wake = text(wakes)
  end
  local head = table.concat({
    '1', text(revision), text(fence), owner, text(attempt), text(created), text(run), text(time), text(lease),
    text(answer), text(gone), wake, state,
  }, ' ') .. '\n'
  local was_finished = old and old.state ~= 'r' and old.state ~= 'a'
  if not old then redis.call('ZADD', KEYS[2], 0, ARGV[1]) end
  place(KEYS[3], state == 'r' and lease or NEVER, old and old.state == 'r')
  place(KEYS[4], wakes, old and old.wake ~= 'n')
  place(KEYS[5], expires(state, answer, gone), was_finished)
  set(state, gone, time, head .. ARGV[12])
  return head
end

local function late(time)
  return ARGV[2] ~= '-' and time > tonumber(ARGV[2])
end
