-- Ends a session: writes its last event and removes its state, in one step.
-- `state.lua` comes before it.
--
-- KEYS   as in erase.lua, but for the last three
-- ARGV   event (a JSON object without its closing brace), events_max,
--        idempotency field or empty, idempotency ttl in ms, expiry as in claim.lua
-- Returns {stream entry, session, position}; without a session the event is written all the
--         same, for the track was heard. Nothing when this call had been made before, and
--         {'late', this server's time in ms} when it comes too late.

local session, bitmap, events, idem, idem_before, oldest = unpack(KEYS)
local event, events_max, field, idem_ttl = unpack(ARGV)
local expires = tonumber(ARGV[5])

if expires > 0 then
  local clock = redis.call('TIME')
  local server_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
  if server_ms > expires then return {'late', server_ms} end
end

if field ~= '' then
  if redis.call('HEXISTS', idem, field) == 1 or redis.call('HEXISTS', idem_before, field) == 1 then
    return nil
  end
  redis.call('HSET', idem, field, '')
  redis.call('PEXPIRE', idem, idem_ttl)
end
local id, _, position = read_session(redis.call('HGET', session, 'state'))
local entry = redis.call('XADD', events, 'MAXLEN', '~', events_max, '*', 'event', event
  .. ',"session":' .. (id and '"' .. id .. '"' or 'null')
  .. ',"position":' .. (position or '0') .. '}')
redis.call('UNLINK', session, bitmap, oldest)
return {entry, id or false, position or false}
