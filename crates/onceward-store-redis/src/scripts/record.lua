-- How a record is stored: one line that scripts read, then bytes that they never look at.
--   format revision fence owner attempt created run_until updated lease_until answer_until gone_until wake_at state
-- Times are milliseconds; '-' is never. Without a wake-up time there is 'n'. States: r(unning) a(bandoned)
-- f(reed) d(one) t(ombstone). Numbers stay below 2^53, where Lua counts exactly, until the year 2248.
local NEVER = math.huge
local HEAD_BYTES = 320

local function ms(text)
  if text == '-' then return NEVER end
  return tonumber(text)
end

local function text(time)
  if time == NEVER then return '-' end
  return string.format('%.0f', time)
end

-- The line of a stored record as a table; nil when it cannot be read.
local function parse(stored)
  local revision, fence, owner, attempt, created, run, lease, answer, gone, wake, state = string.match(stored,
    '^1 (%d+) (%d+) (%x+) (%d+) (%d+) (%S+) %d+ (%S+) (%S+) (%S+) (%S+) ([rafdt])\n')
  -- Longer numbers are none of ours, and could not be counted with.
  if not revision or #revision > 16 or #fence > 16 then return nil end
  return {
    revision = revision, fence = fence, owner = owner, attempt = attempt, created = created, run = run,
    lease = lease, answer = answer, gone = gone, wake = wake, state = state,
  }
end

-- When sweeping has something to do with a record in this state.
local function expires(state, answer, gone)
  if state == 'd' then return answer end
  if state == 'f' or state == 't' then return gone + SETTLE end
  return NEVER
end

-- KEYS: 1 the record, 2 every id, 3 leases, 4 wake-up times, 5 ends. All are in one hash slot.
local function place(key, at, was)
  if at ~= NEVER then
    redis.call('ZADD', key, string.format('%.0f', at), ARGV[1])
  elseif was then
    redis.call('ZREM', key, ARGV[1])
  end
end

-- Unfinished records live for ever; others go by themselves long after a sweep would have taken them.
local function set(state, gone, now, stored)
  if state == 'r' or state == 'a' or gone == NEVER then
    redis.call('SET', KEYS[1], stored)
  else
    redis.call('SET', KEYS[1], stored, 'PX', string.format('%.0f', math.max(gone + NET - now, NET)))
  end
end

local function remove()
  redis.call('DEL', KEYS[1])
  for index = 2, 5 do redis.call('ZREM', KEYS[index], ARGV[1]) end
end
