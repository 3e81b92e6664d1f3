-- Ends a session: writes its last event and removes its state, in one step.
--
-- KEYS   as in claim.lua
-- ARGV   event (a JSON object without its closing brace), events_max,
--        idempotency field or empty, idempotency ttl in ms
-- Returns 1 when a session ended, 0 when there was none (the event is written all the
-- same: the track was heard), -1 when this call had been made before.

local session, listened, order, events, idem, idem_before = unpack(KEYS)
local event, events_max, field, idem_ttl = unpack(ARGV)

if field ~= '' then
  if redis.call('HEXISTS', idem, field) == 1 or redis.call('HEXISTS', idem_before, field) == 1 then
    return -1
  end
  redis.call('HSET', idem, field, '')
  redis.call('PEXPIRE', idem, idem_ttl)
end
local state = redis.call('HMGET', session, 'id', 'position')
local id = state[1] and '"' .. state[1] .. '"' or 'null'
redis.call('XADD', events, 'MAXLEN', '~', events_max, '*', 'event', event
  .. ',"session":' .. id .. ',"position":' .. (state[2] or '0') .. '}')
redis.call('DEL', listened, order)
return redis.call('DEL', session)
