-- The server's time in milliseconds. Every judgement is by it.
local time = redis.call('TIME')
time = time[1] * 1000 + math.floor(time[2] / 1000)
