-- Settles a plan against one listener's session and records the answer, in one step.
--
-- The same algorithm as `policy.settle`; a test holds the two equal. Nothing is written
-- before the answer is known, so a plan that is exhausted leaves no trace.
--
-- KEYS   session hash, listened set, listened order, events stream, idempotency now, before
-- ARGV   see `sessions.py`; a pool is six arguments from FIRST on:
--        recommender, tracks, weights, count, pick (of a sample: its population), spare
-- Tracks are length-prefixed decimal ids, weights little-endian doubles.
-- Returns {'claimed', track, recommender, propensity, position, session, fallback},
--         {'again', stored answer}, {'moved'},
--         or {'exhausted', position, distinct tracks heard of the catalogue (-1: unknown)}.

local session, listened, order, events, idem, idem_before = unpack(KEYS)
local track, time, known, now, ttl = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4], ARGV[5]
local fresh, policy, version, event, events_max = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local field, idem_ttl, answer = ARGV[11], ARGV[12], ARGV[13]
local expected, recount = ARGV[17], ARGV[18]
local routes = {contextual = ARGV[14], personal = ARGV[15]}
local late = ARGV[19] == '1' -- the plan was made as a fallback
local FIRST, POOL = 20, 6

if field ~= '' then
  local stored = redis.call('HGET', idem, field) or redis.call('HGET', idem_before, field)
  if stored then return {'again', stored} end
end

local state = redis.call('HMGET', session, 'id', 'recommender', 'position', 'outside', 'counted')
local id, last = state[1] or fresh, state[2]
local position = tonumber(state[3] or 0)
local outside, counted = tonumber(state[4] or 0), state[5] or version
if recount ~= '' then outside, counted = tonumber(recount), version end
if expected ~= '' and tonumber(expected) ~= position then return {'moved'} end

-- How many tracks of the catalogue the session has heard, this report included. It is
-- exact only while the catalogue is the one that the count of outsiders was made with.
local function heard_of_catalogue()
  if counted ~= version then return -1 end
  local heard = redis.call('SCARD', listened) - outside
  if known and redis.call('SISMEMBER', listened, track) == 0 then heard = heard + 1 end
  return heard
end

local function settle_pool(tracks, flags, count, first)
  local pick = tonumber(ARGV[first + 4])
  local weights = {struct.unpack('<' .. string.rep('d', count), ARGV[first + 2])}
  local left, unheard = 0, 0
  for i = 1, count do
    if flags[i] == 0 then left, unheard = left + weights[i], unheard + 1 end
  end
  if unheard == 0 then return nil end
  if flags[pick + 1] ~= 0 then
    local mark, sum = tonumber(ARGV[first + 5]) * left, 0
    for i = 1, count do
      if flags[i] == 0 then
        sum, pick = sum + weights[i], i - 1
        if sum > mark then break end
      end
    end
  end
  return tracks[pick + 1], weights[pick + 1] / left
end

local function settle_sample(tracks, flags, count, first)
  local heard = heard_of_catalogue()
  if heard < 0 then return nil end
  for i = 1, count do
    if flags[i] == 0 then
      return tracks[i], 1 / math.max(tonumber(ARGV[first + 4]) - heard, 1)
    end
  end
end

local function settle(first)
  local count = tonumber(ARGV[first + 3])
  if count == 0 then return nil end
  local tracks = {struct.unpack(string.rep('Bc0', count), ARGV[first + 1])}
  tracks[count + 1] = nil -- struct appends the position where it stopped
  local flags
  if ARGV[first + 5] == 'memoryless' then
    flags = {}
    for i = 1, count do flags[i] = 0 end
  else
    flags = redis.call('SMISMEMBER', listened, unpack(tracks))
    for i = 1, count do
      if tracks[i] == track then flags[i] = 1 end
    end
  end
  if ARGV[first + 2] == '' then return settle_sample(tracks, flags, count, first) end
  return settle_pool(tracks, flags, count, first)
end

local route = routes[last] or ARGV[16]
local choice, propensity, recommender, rank
for i = 1, #route do
  local first = FIRST + POOL * string.byte(route, i)
  choice, propensity = settle(first)
  if choice then
    recommender, rank = ARGV[first], i
    break
  end
end
if not choice then return {'exhausted', position, heard_of_catalogue()} end

local fallback = (late or rank > 1) and '1' or '0'
propensity = string.format('%.17g', propensity)
if not known then
  outside = outside + redis.call('SADD', listened, track)
  redis.call('SADD', listened, choice)
else
  redis.call('SADD', listened, track, choice)
end
redis.call('ZADD', order, 2 * position, track, 2 * position + 1, choice)
redis.call('HSET', session, 'id', id, 'recommender', recommender, 'position', position + 1,
  'track', track, 'time', time, 'served', choice, 'at', now, 'policy', policy,
  'table', version, 'outside', outside, 'counted', counted)
if position == 0 then redis.call('HSET', session, 'started', now) end
redis.call('PEXPIRE', session, ttl)
redis.call('PEXPIRE', listened, ttl)
redis.call('PEXPIRE', order, ttl)
redis.call('XADD', events, 'MAXLEN', '~', events_max, '*', 'event', event
  .. ',"session":"' .. id .. '","position":' .. position .. ',"recommendation":' .. choice
  .. ',"recommender":"' .. recommender .. '","propensity":' .. propensity
  .. ',"fallback":' .. (fallback == '1' and 'true' or 'false') .. '}')
if field ~= '' then
  redis.call('HSET', idem, field, table.concat(
    {choice, recommender, propensity, position, id, fallback, answer}, ' '))
  redis.call('PEXPIRE', idem, idem_ttl)
end
return {'claimed', choice, recommender, propensity, position, id, fallback}
