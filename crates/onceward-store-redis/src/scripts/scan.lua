-- KEYS: 1 the ids of a bucket. ARGV: 1 where to begin, 2 how many at most. Gives {time, {id, …}} in order.
return {time, redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], '+', 'LIMIT', 0, ARGV[2])}
