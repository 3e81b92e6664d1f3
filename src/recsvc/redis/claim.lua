-- Settles plans against listeners' sessions and records the answers, in one step. `heard.lua` and
-- `state.lua` come before it.
--
-- The same algorithm as `policy.settle`; a test holds the two equal. Nothing is written of a
-- claim before its answer is known, so a plan that is exhausted leaves no trace.
--
-- KEYS   of each claim: session hash, heard bitmap, events stream; where there are idempotency
--        keys also idempotency now, before; all of one partition, each listener once
-- ARGV   session ttl in ms, events_max, idempotency ttl in ms, how many KEYS each claim has; then
--        of each claim what is unpacked below, and of each pool that is sent its recommender, and
--        its candidates: tracks (8 bytes each), weights and their sum (doubles); of a sample only
--        tracks. A word costs more than to look up a heard track, hence so few.
-- `draws` has of each pool that is sent its number (byte), its pick (int32; of a sample its
-- population), how many candidates there are (int32) and its spare (double; MEMORYLESS: heard tracks
-- stay in it; SAMPLE: it is one). The pick of a personal pool that is thought to be spent, and comes
-- without its candidates, is ONLY_NAMED.
-- `routes` has the lengths of two (bytes), then the numbers of the pools to ask after contextual,
-- after personal, otherwise (bytes). `numbers` are whether the catalogue has the reported track,
-- whether the plan is a fallback (bytes), when the claim expires, now, and that track (int64 each).
-- `report` is what the session's text ends with (state.lua).
-- `rare` is empty for most claims, or has, apart by spaces, the position that the session is to
-- have, its tracks outside of the catalogue counted anew, idempotency field, and answer to keep
-- under it but for what is found out here; each may be empty.
-- Returns of each claim
--         {'claimed', track, recommender, propensity, position, session, fallback, stream entry,
--         1 if the personal pool is spent, else 0},
--         {'again', stored answer}, {'moved'}, {'late', this server's time in ms},
--         {'more'} when a pool is asked that was not sent,
--         {'failed'} for an error among several claims, or
--         {'exhausted', position, distinct tracks heard of the catalogue (-1: unknown)}.

local LIMITS, SCALARS, POOL = 4, 9, 2
local DRAW = 17 -- bytes
local SEVERAL = 255 -- in a sieve, which `candidates.py` explains
local MEMORYLESS, SAMPLE, ONLY_NAMED = -1, -2, -2
local FEW = 12 -- weights that are sooner looked up one by one than unpacked with all others
local ttl, events_max, idem_ttl, own_keys = unpack(ARGV, 1, LIMITS)
own_keys = tonumber(own_keys)
local call = redis.call
local clock = call('TIME')
local server_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- These are not inside of `claim`: to make them anew for each claim takes a microsecond.

-- Returns the indices, from 0 on, of those among some candidates that have been heard. From `count`
-- on what is found is no candidate, but a weight that looks like one.
local function heard_among(candidates, count, heard, heard_of, reported)
  local gone, sieve = {}, 16 * count + 9
  local sifted = #candidates > sieve
  if not heard then
    gone = heard_of(candidates, count)
  elseif sifted then
    -- The sieve rules nearly all tracks out. So no string is made of each, which costs more than
    -- all else.
    for i = 1, #heard, 8 do
      local low, high = byte(heard, i, i + 1)
      local odd = high % 2
      local mark = byte(candidates, sieve + 2 * low + odd)
      if mark ~= 0 and (mark == SEVERAL or mark == (high - odd) / 2 + 1) then
        local at = index_in(candidates, sub(heard, i, i + 7))
        if at and at < count then gone[#gone + 1] = at end
      end
    end
  else -- they are few
    for i = 1, 8 * count, 8 do
      local id = sub(candidates, i, i + 7)
      if find(heard, id, 1, true) and index_in(heard, id) then gone[#gone + 1] = (i - 1) / 8 end
    end
  end
  local low, high = byte(reported, 1, 2)
  if not sifted or byte(candidates, sieve + 2 * low + high % 2) ~= 0 then
    local at = index_in(candidates, reported)
    if at and at >= count then at = nil end
    for i = 1, at and #gone or 0 do
      if gone[i] == at then at = nil break end
    end
    if at then gone[#gone + 1] = at end
  end
  return gone
end

local function weight_of(candidates, count, index)
  local weight = struct.unpack('<d', candidates, 8 * (count + index) + 1)
  return weight
end

-- Returns the index of the track to serve, from 0 on, and its propensity; nil when all are `gone`.
local function settle_pool(candidates, count, pick, spare, gone)
  if #gone == count then return nil end
  local total = weight_of(candidates, count, count)
  local left = total
  if #gone <= FEW then
    local heard = false
    for i = 1, #gone do
      left = left - weight_of(candidates, count, gone[i])
      heard = heard or gone[i] == pick
    end
    -- With next to nothing left it would be next to nothing but rounding.
    if not heard and left > total / 16 then
      return pick, weight_of(candidates, count, pick) / left
    end
  end
  local weights = {struct.unpack('<' .. string.rep('d', count), candidates, 8 * count + 1)}
  left = total
  for i = 1, #gone do
    local at = gone[i] + 1
    left, weights[at] = left - weights[at], 0
  end
  if left <= total / 16 then -- as above
    left = 0
    for i = 1, count do left = left + weights[i] end
  end
  if weights[pick + 1] == 0 then
    local mark, sum = spare * left, 0
    for i = 1, count do
      if weights[i] > 0 then
        sum, pick = sum + weights[i], i - 1
        if sum > mark then break end
      end
    end
  end
  return pick, weights[pick + 1] / left
end

-- How many tracks of the catalogue a session has heard, this report included; -1: unknown, as when
-- the count of outsiders was made with another catalogue.
local function heard_of_catalogue(count_of, version, heard, session, known, reported)
  local outside, counted = read_count(count_of)
  if counted ~= version then return -1 end
  local count = count_heard(heard, session) - tonumber(outside)
  if known and not has_heard(heard, session, reported) then count = count + 1 end
  return count
end

local function settle_sample(tracks, population, count, heard, session, reported)
  if count < 0 then return nil end
  for i = 0, #tracks / 8 - 1 do
    local id = sub(tracks, 8 * i + 1, 8 * i + 8)
    if id ~= reported and not has_heard(heard, session, id) then
      return i, 1 / math.max(population - count, 1)
    end
  end
end

local function claim(first_key, first)
  local session, bitmap, events, idem, idem_before =
    unpack(KEYS, first_key, first_key + own_keys - 1)
  local draws, version, routes, rare, evidence, numbers, report, fresh, event =
    unpack(ARGV, first, first + SCALARS - 1)
  local known, late, expires, now, reported = struct.unpack('<BBi8i8c8', numbers)
  known, late = known == 1, late == 1
  local expected, recount, field, answer = '', '', '', ''
  if rare ~= '' then
    expected, recount, field, answer = string.match(rare, '^(%S*) (%S*) (%S*) (.*)$')
  end

  -- Whoever asked has given up by then, and served something else. `expires` is on this
  -- server's clock; 0 is never.
  if expires > 0 and server_ms > expires then return {'late', server_ms} end

  if field ~= '' then
    local stored = call('HGET', idem, field) or call('HGET', idem_before, field)
    if stored then return {'again', stored} end
  end

  local stored = call('HMGET', session, 'state', 'heard', 'spent')
  local id, last, position, count_of = read_session(stored[1])
  local damaged = stored[1] and not id
  local heard = stored[2] or (not id and '' or nil)
  local heard_of, set_bits
  if not heard then heard_of, set_bits = long_session(session, bitmap) end
  if not id then
    id, position, count_of = fresh, '0', write_count(0, version, string.format('%d', now))
  end
  if recount ~= '' then
    local _, _, started = read_count(count_of)
    count_of = write_count(recount, version, started or string.format('%d', now))
  elseif not find(count_of, ' counted=' .. version .. ' ', 1, true) then
    -- The table has changed since. What is heard from here on is not of the other one, so its
    -- count is nobody's any more: that one may come back.
    local outside, _, started = read_count(count_of)
    if outside then count_of = write_count(outside, '', started) end
  end
  local answers = tonumber(position)
  if expected ~= '' and tonumber(expected) ~= answers then return {'moved'} end

  local route, route_end = 3, 2 + byte(routes, 1) -- after contextual
  if last == 'personal' then
    route, route_end = route_end + 1, route_end + byte(routes, 2)
  elseif last ~= 'contextual' then
    route, route_end = route_end + byte(routes, 2) + 1, #routes
  end
  -- All of the listener's personal tracks in this table have been heard: no need to look again.
  local spent, spent_now = stored[3] == version, false
  local choice, propensity, recommender, rank
  for at = route, route_end do
    local wanted, nth, pools = byte(routes, at), 1, #draws / DRAW
    while nth <= pools and byte(draws, DRAW * nth - DRAW + 1) ~= wanted do nth = nth + 1 end
    if nth > pools then return {'more'} end
    local candidates, index
    recommender, candidates = unpack(ARGV, first + SCALARS + POOL * (nth - 1),
      first + SCALARS + POOL * nth - 1)
    rank = at - route + 1
    local pick, count, spare = struct.unpack('<iid', draws, DRAW * nth - DRAW + 2)
    if spare == SAMPLE then
      local gone = heard_of_catalogue(count_of, version, heard, session, known, reported)
      index, propensity = settle_sample(candidates, pick, gone, heard, session, reported)
    elseif pick == ONLY_NAMED then
      if not spent then return {'more'} end
    elseif pick >= 0 and not (spent and recommender == 'personal') then
      local gone = spare == MEMORYLESS and {}
        or heard_among(candidates, count, heard, heard_of, reported)
      index, propensity = settle_pool(candidates, count, pick, spare, gone)
      -- Also when this is the last of them: the worker need not find out by a wrong guess.
      spent_now = spent_now or recommender == 'personal' and spare ~= MEMORYLESS
        and #gone >= count - 1
    end
    if index then
      choice = sub(candidates, 8 * index + 1, 8 * index + 8)
      break
    end
  end
  if not choice then
    return {'exhausted', answers,
      heard_of_catalogue(count_of, version, heard, session, known, reported)}
  end

  local fallback = (late or rank > 1) and '1' or '0'
  local served = decimal(choice)
  propensity = string.format('%.17g', propensity)
  if not known and not has_heard(heard, session, reported) then
    local outside, counted, started = read_count(count_of)
    if outside then count_of = write_count(outside + 1, counted, started) end
  end
  if damaged then call('UNLINK', session) end -- of what is left of it nothing is to come back
  local state = write_state(id, recommender, answers + 1, count_of, served, report)
  local long = write_heard(heard, session, bitmap, state, answers, reported, choice, set_bits)
  if spent_now then call('HSET', session, 'spent', version) end
  if evidence ~= '' then call('HSET', session, 'learnt', evidence) end
  call('PEXPIRE', session, ttl)
  if long then call('PEXPIRE', bitmap, ttl) end
  local entry = call('XADD', events, 'MAXLEN', '~', events_max, '*', 'event', event
    .. ',"session":"' .. id .. '","position":' .. answers .. ',"recommendation":' .. served
    .. ',"recommender":"' .. recommender .. '","propensity":' .. propensity
    .. ',"fallback":' .. (fallback == '1' and 'true' or 'false') .. '}')
  if field ~= '' then
    call('HSET', idem, field, table.concat(
      {served, recommender, propensity, position, id, fallback, answer}, ' '))
    call('PEXPIRE', idem, idem_ttl)
  end
  return {'claimed', served, recommender, propensity, answers, id, fallback, entry,
    (spent or spent_now) and 1 or 0}
end

local replies, first = {}, LIMITS + 1
for i = 1, #KEYS / own_keys do
  local first_key = own_keys * (i - 1) + 1
  if #KEYS == own_keys then
    replies[i] = claim(first_key, first)
  else -- what is wrong with one listener's keys must not cost others their answers
    local well, reply = pcall(claim, first_key, first)
    replies[i] = well and reply or {'failed'}
  end
  first = first + SCALARS + POOL * #ARGV[first] / DRAW
end
return replies
