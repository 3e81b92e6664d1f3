-- Tells whether the server takes writes: a full one, or a replica, answers a PING all the same.
--
-- KEYS   a key to write
-- Returns the server's time in ms.

redis.call('SET', KEYS[1], '', 'PX', 60000)
local clock = redis.call('TIME')
return clock[1] * 1000 + math.floor(clock[2] / 1000)
