-- Returns what a policy that infers needs of some sessions: of each its state, its evidence, and
-- what it has heard if it is short.
--
-- KEYS   session hashes, all of one partition

local found = {}
for i, session in ipairs(KEYS) do
  found[i] = redis.call('HMGET', session, 'state', 'evidence', 'heard')
end
return found
