-- For scripts that are called now and then: what the line of a record says of its indexes.
local NEVER = math.huge

local function ms(text)
  if text == '-' then return NEVER end
  return tonumber(text)
end

-- The line of a stored record as a table; nil when it cannot be read.
local function parse(stored)
  local revision, lease, answer, gone, wake, state = string.match(stored,
    '^1 (%d+) %d+ %x+ %d+ %d+ %S+ %d+ (%S+) (%S+) (%S+) (%S+) ([rafdt])\n')
  if not revision then return nil end
  return { revision = revision, lease = lease, answer = answer, gone = gone, wake = wake, state = state }
end

local function head()
  return parse(redis.call('GETRANGE', KEYS[1], '0', '320'))
end

-- When sweeping has something to do with a record in this state.
local function expires(state, answer, gone)
  if state == 'd' then return answer end
  if state == 'f' or state == 't' then return gone + SETTLE end
  return NEVER
end

local function place(key, at)
  if at ~= NEVER then redis.call('ZADD', key, string.format('%d', at), ARGV[1]) end
end

local function remove()
  redis.call('DEL', KEYS[1])
  for index = 2, 5 do redis.call('ZREM', KEYS[index], ARGV[1]) end
end
