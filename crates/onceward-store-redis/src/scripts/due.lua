-- KEYS: 1 an index of times. ARGV: 1 how many at most. Gives {time, {id, time, …}}, earliest first.
return {time, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', time), 'WITHSCORES', 'LIMIT', 0, ARGV[1])}
