-- Removes all that is held on a listener, in one step, and marks their events: what stands
-- before the mark is nobody's any more, and is left out wherever events are read.
-- `heard.lua` comes before it.
--
-- KEYS   session hash, heard bitmap, events stream, idempotency now, before, tracks heard
--        longest ago, idempotency before that, which session ended last in an outage, then who
--        has been forgotten (scored by when, in ms)
-- ARGV   listener, events_max, expiry as in claim.lua
-- Returns {1 if there was a session, else 0; how many tracks it had heard; when, in ms; the
--         stream entry of the mark}, or {'late', this server's time in ms}.

local session, bitmap, events, idem, idem_before, oldest, idem_first, ended, forgotten =
  unpack(KEYS)
local user, events_max, expires = ARGV[1], ARGV[2], tonumber(ARGV[3])

local clock = redis.call('TIME')
local server_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- Whoever asked was told that nothing was done, and the listener may have gone on since.
if expires > 0 and server_ms > expires then return {'late', server_ms} end

local heard = count_heard(redis.call('HGET', session, 'heard'), session)
redis.call('UNLINK', bitmap, idem, idem_before, idem_first, oldest, ended)
local found = redis.call('UNLINK', session)
local now = string.format('%d', server_ms)
redis.call('ZADD', forgotten, now, user)
local entry = redis.call('XADD', events, 'MAXLEN', '~', events_max, '*', 'event',
  '{"timestamp":' .. now .. ',"message":"forget","user":' .. user .. '}')
return {found, heard, tonumber(now), entry}
