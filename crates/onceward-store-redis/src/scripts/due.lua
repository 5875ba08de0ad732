-- KEYS: 1 an index of times. ARGV: 1 how many at most, 2 and 3 the time and the id behind which to begin; 2 is '' at the
-- start. Gives {time, {id, time, …}} in the order of times and ids.
local from, skip = '-inf', 0

-- Byte by byte, as the index is in order. What Lua finds smaller depends on the server's language.
local function is_passed(id)
  for at = 1, #id do
    local one, other = string.byte(id, at), string.byte(ARGV[3], at)
    if one ~= other then return other ~= nil and one < other end
  end
  return true
end

-- Whether the entry at this place among those of the time in ARGV[2] lies before the place to begin at.
local function lies_before(place)
  local id = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[2], ARGV[2], 'LIMIT', place, 1)[1]
  return id ~= nil and is_passed(id)
end

if ARGV[2] ~= '' then
  from = ARGV[2]
  -- There may be many of one time: in steps that double, then by halves. Before `skip` all lie before, and the entry at
  -- `skip + step - 1` does not.
  local step = 1
  while lies_before(skip + step - 1) do
    skip = skip + step
    step = step * 2
  end
  while step > 1 do
    step = step / 2
    if lies_before(skip + step - 1) then skip = skip + step end
  end
end
local now = string.format('%d', time)
return {time, redis.call('ZRANGEBYSCORE', KEYS[1], from, now, 'WITHSCORES', 'LIMIT', skip, ARGV[1])}
