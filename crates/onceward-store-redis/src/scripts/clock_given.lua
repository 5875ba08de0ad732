-- Tests hold the time in their hand: it comes as the last argument.
local time = tonumber(ARGV[#ARGV])
