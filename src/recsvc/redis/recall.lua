-- Returns what a policy that infers needs of some sessions: of each its state, its evidence, and
-- what it has heard if it is short; nothing of one that is no hash.
--
-- KEYS   session hashes, all of one partition

local found = {}
for i, session in ipairs(KEYS) do
  local fields = redis.pcall('HMGET', session, 'state', 'evidence', 'heard')
  found[i] = not fields.err and fields
end
return found
