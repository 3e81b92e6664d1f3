-- Removes all that is held on a listener, in one step, and marks their events: what stands
-- before the mark is nobody's any more, and is left out wherever events are read.
--
-- KEYS   as in claim.lua, then who has been forgotten (scored by when, in ms)
-- ARGV   listener, events_max
-- Returns {1 if there was a session, else 0; how many tracks it had heard; when, in ms; the
--         stream entry of the mark}.

local session, bitmap, order, events, idem, idem_before, forgotten = unpack(KEYS)
local user, events_max = ARGV[1], ARGV[2]

local short = redis.call('HGET', session, 'heard')
local heard = short and #short / 8 or redis.call('ZCARD', order)
redis.call('UNLINK', bitmap, order, idem, idem_before)
local found = redis.call('UNLINK', session)

local clock = redis.call('TIME')
local now = string.format('%d', clock[1] * 1000 + math.floor(clock[2] / 1000))
redis.call('ZADD', forgotten, now, user)
local entry = redis.call('XADD', events, 'MAXLEN', '~', events_max, '*', 'event',
  '{"timestamp":' .. now .. ',"message":"forget","user":' .. user .. '}')
return {found, heard, tonumber(now), entry}
