-- Tests hold the time in their hand: it comes as the last argument.
local function now()
  return tonumber(ARGV[#ARGV])
end
