-- Gives {time, what is there or nil}.
return {time, redis.call('GET', KEYS[1])}
