-- Returns how many tracks a session has heard. `heard.lua` comes before it.
--
-- KEYS   session hash

return count_heard(redis.call('HGET', KEYS[1], 'heard'), KEYS[1])
