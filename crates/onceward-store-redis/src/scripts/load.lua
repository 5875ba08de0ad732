-- Gives {time, what is there or nil}.
return {now(), redis.call('GET', KEYS[1])}
