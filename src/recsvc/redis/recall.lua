-- Returns what a policy that infers needs of some sessions: of each {position, track served last
-- ('' in a new session), evidence, what it has heard if it is short}; nothing of one that is no
-- hash. `state.lua` comes before it.
--
-- KEYS   session hashes, all of one partition

local found = {}
for i, session in ipairs(KEYS) do
  local fields = redis.pcall('HMGET', session, 'state', 'learnt', 'heard')
  local id, _, position = read_session(fields[1])
  local served = read_latest(fields[1])
  found[i] = not fields.err and {
    id and tonumber(position) or 0, id and served or '', fields[2] or '', fields[3] or ''
  }
end
return found
