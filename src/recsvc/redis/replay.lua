-- Records what was answered without this server, or what it has lost, in one step.
-- `heard.lua` and `state.lua` come before it.
--
-- KEYS   events stream, marks, who has been forgotten, then of each record the keys of
--        erase.lua but for those: session hash, heard bitmap, idempotency now, before, tracks heard
--        longest ago, idempotency before that, which session ended last in an outage
-- ARGV   session ttl in ms, events_max, idempotency ttl in ms, then of each record, from FIRST
--        on, its source, its number there, and what `write` unpacks; tracks are 8 bytes each,
--        `reported_as` is what the session's text ends with (state.lua), `began` is when the
--        session did, in ms (0: unknown)
-- A record is written once however often it comes: its number is above its source's mark only once.
-- Returns how many events were written.

local events, marks, forgotten = KEYS[1], KEYS[2], KEYS[3]
local ttl, events_max, idem_ttl = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local FIRST, RECORD, OWN_KEYS = 4, 21, 7
local KEPT = 7 * 24 * 3600 * 1000 -- ms for which a mark is remembered

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Entries are numbered by time and sequence, which only compare as numbers.
local function before(entry, other)
  local ms, seq = string.match(entry, '(%d+)-(%d+)')
  local other_ms, other_seq = string.match(other, '(%d+)-(%d+)')
  ms, other_ms = tonumber(ms), tonumber(other_ms)
  return ms < other_ms or (ms == other_ms and tonumber(seq) < tonumber(other_seq))
end

-- A long stream loses its oldest entries as it grows; those are not lost.
local function stored_or_trimmed(entry)
  if #redis.call('XRANGE', events, entry, entry) > 0 then return true end
  if redis.call('XLEN', events) < tonumber(events_max) then return false end
  return before(entry, redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1][1])
end

local function add_event(event, id, position, rest)
  redis.call('XADD', events, 'MAXLEN', '~', events_max, '*', 'event', event
    .. ',"session":' .. (id and '"' .. id .. '"' or 'null') .. ',"position":' .. position
    .. rest .. '}')
end

-- As erase.lua does it. What of the listener was written again is before this mark too.
local function forget(user, keys)
  redis.call('UNLINK', unpack(keys))
  redis.call('ZADD', forgotten, string.format('%d', now), user)
  redis.call('XADD', events, 'MAXLEN', '~', events_max, '*', 'event', '{"timestamp":'
    .. string.format('%d', now) .. ',"message":"forget","user":' .. user .. '}')
end

local function write(r, first_key)
  local message, entry, orphan, reported, reported_as, known, written_at, fresh, own,
    own_position, began, choice, recommender, propensity, fallback, version, field, answer, event =
    unpack(ARGV, r + 2, r + RECORD - 1)
  local session, bitmap, idem, idem_before, oldest, idem_first, ended =
    unpack(KEYS, first_key, first_key + OWN_KEYS - 1)
  local at, user = tonumber(written_at), string.match(session, '%d+$')

  if entry ~= '' and stored_or_trimmed(entry) then return 0 end
  if message == 'forget' then
    forget(user, {session, bitmap, idem, idem_before, idem_first, oldest, ended})
    return 1
  end
  local asked = redis.call('ZSCORE', forgotten, user)
  if asked and at <= tonumber(asked) then return 0 end -- who is forgotten does not come back
  if orphan ~= '' then
    redis.call('XDEL', events, orphan) -- an answer to the same call that nobody got
  elseif field ~= '' and (redis.call('HEXISTS', idem, field) == 1
      or redis.call('HEXISTS', idem_before, field) == 1) then
    return 0
  end

  local state = redis.call('HMGET', session, 'state', 'heard')
  local stored, last, answers, count_of = read_session(state[1])
  local last_served, report, last_at = read_latest(state[1])
  local latest = tonumber(last_at or 0)
  local outside, counted, started = read_count(count_of or '')
  -- Workers tell of what they saw in no common order. So it is kept which session has ended: what
  -- is told of it later neither begins it again nor is of the one that came after.
  local over_id, over_position, over_at = unpack(redis.call('HMGET', ended, 'id', 'position', 'at'))
  local over = over_id and at <= tonumber(over_at) and (own == '' or own == over_id)
  local function ends(id, position, when)
    redis.call('UNLINK', session, bitmap, oldest)
    redis.call('HSET', ended, 'id', id, 'position', position, 'at', when)
    redis.call('PEXPIRE', ended, ttl)
  end
  if own == '' and choice ~= '' and stored and latest < tonumber(began) and not over then
    -- It had ended when the listener went on; whoever saw it end has yet to tell.
    ends(stored, answers, began)
    state, stored, last, answers, outside, counted, started = {}, nil, nil, nil, nil, nil, nil
    last_served, report, latest = nil, nil, 0
  end
  local id = own ~= '' and own or over and over_id or stored or fresh
  local position = tonumber(own_position ~= '' and own_position or over and over_position
    or answers or 0)
  local ours = not over and (not stored or stored == id)

  if choice == '' then
    if ours and latest <= at then ends(id, position, written_at) end
    -- What is stored may have begun since.
    local known_id = own ~= '' or over or stored and tonumber(started or 0) <= at
    add_event(event, known_id and id, known_id and position or 0, '')
    if field ~= '' then redis.call('HSET', idem, field, '') end
  else
    local left, served = at + ttl - now, decimal(choice)
    if ours and left > 0 then
      local heard = state[2] or (not stored and '' or nil)
      outside = tonumber(outside or 0)
      if known ~= '1' and not has_heard(heard, session, reported) then outside = outside + 1 end
      -- Counted with another catalogue, it is to be counted anew.
      counted = (counted or version) == version and version or ''
      if latest <= at then
        last, last_served = recommender, served
        report = reported_as
      end
      local new = write_state(id, last, math.max(position + 1, tonumber(answers or 0)),
        write_count(outside, counted, started or written_at), last_served, report)
      if state[1] and not stored then redis.call('UNLINK', session) end -- it could not be read
      write_heard(heard, session, bitmap, new, position, reported, choice)
      -- The bitmap may be new, and then lives as long as the hash does.
      local lives = math.max(left, redis.call('PTTL', session))
      for _, key in ipairs({session, bitmap}) do redis.call('PEXPIRE', key, lives) end
      redis.call('UNLINK', oldest) -- the record may be of something older
    end
    add_event(event, id, position, ',"recommendation":' .. served .. ',"recommender":"'
      .. recommender .. '","propensity":' .. propensity .. ',"fallback":'
      .. (fallback == '1' and 'true' or 'false') .. (entry == '' and ',"degraded":true' or ''))
    if field ~= '' then
      -- An answer without this server had no session.
      redis.call('HSET', idem, field, table.concat({served, recommender, propensity, position,
        entry == '' and '-' or id, fallback, answer}, ' '))
    end
  end
  if field ~= '' then redis.call('PEXPIRE', idem, idem_ttl) end
  return 1
end

local done, written, first_key = {}, 0, 4
for r = FIRST, #ARGV, RECORD do
  local source, number = ARGV[r], tonumber(ARGV[r + 1])
  done[source] = done[source] or tonumber(redis.call('HGET', marks, source) or 0)
  if number > done[source] then
    written, done[source] = written + write(r, first_key), number
    -- At once, for what comes next may fail and end this call.
    redis.call('HSET', marks, source, string.format('%d', number))
  end
  first_key = first_key + OWN_KEYS
end
redis.call('PEXPIRE', marks, KEPT)
return written
