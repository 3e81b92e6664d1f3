-- What a session has heard. The scripts that need it begin with this text.
--
-- A track is 8 bytes, little-endian. Up to SHORT tracks are one string, in the order in which
-- they were last heard: the field `heard` of the session hash. More are a field of the hash each,
-- which has then no such string; its value tells when the track was last heard, as a number that
-- grows. And they are a bitmap beside the hash.
--
-- In the bitmap a track has the bit of its id, counted from OWN on; ids from LARGE on share the
-- first SHARED of these bits with the small ones. WHOLE tells that no track is missing: one that
-- was lost and begun anew has not got that bit. WITH_LARGE tells that there are large ids. In a
-- whole bitmap without any a bit says it all; otherwise the hash is asked for those that have
-- one, or for all.

-- Found once, and not for each track of a session.
local byte, find, sub = string.byte, string.find, string.sub

local SHORT = 128 -- above, to look through the string costs more than a bitmap

-- Returns which of the ids in `packed` is `id`, from 0 on; nil for none.
local function index_in(packed, id)
  local at = find(packed, id, 1, true)
  while at and at % 8 ~= 1 do at = find(packed, id, at + 1, true) end
  return at and (at - 1) / 8
end

-- Splits a packed list.
local function ids_in(packed)
  local ids = {struct.unpack(string.rep('c8', #packed / 8), packed)}
  ids[#ids] = nil -- struct appends the position where it stopped
  return ids
end

-- Writes an id as a decimal. A Lua number is exact up to 2^53 only; beyond, the last nine
-- digits are split off, sixteen bits at a time.
local function decimal(id)
  local low, high = struct.unpack('<I4I4', id)
  if high < 0x200000 then return string.format('%d', high * 0x100000000 + low) end
  local top = math.floor(high / 1e9)
  local middle = high % 1e9 * 0x10000 + math.floor(low / 0x10000)
  local bottom = middle % 1e9 * 0x10000 + low % 0x10000
  local head = top * 0x100000000 + math.floor(middle / 1e9) * 0x10000 + math.floor(bottom / 1e9)
  return string.format('%d%09d', head, bottom % 1e9)
end

-- Returns a short session's tracks but for one.
local function without(heard, id)
  local at = index_in(heard, id)
  return at and sub(heard, 1, 8 * at) .. sub(heard, 8 * at + 9) or heard
end

-- Returns a short session's tracks after one was reported and one served. As a rule the one was the
-- latest already.
local function heard_after(heard, reported, served)
  if sub(heard, -8) == reported then return without(heard, served) .. served end
  heard = without(heard, reported)
  if served == reported then return heard .. served end
  return without(heard, served) .. reported .. served
end

-- Tells whether a session has heard a track; `heard` is nil for a long one.
local function has_heard(heard, session, id)
  if heard then return index_in(heard, id) ~= nil end
  return redis.call('HEXISTS', session, id) == 1
end

-- Returns how many tracks a session has heard; `heard` is nil for a long one.
local function count_heard(heard, session)
  if heard then return #heard / 8 end
  local count = redis.call('HLEN', session)
  -- The other fields that a long one may have. No name of these has 8 bytes, as tracks have.
  for _, value in ipairs(redis.call('HMGET', session, 'state', 'spent', 'learnt')) do
    if value then count = count - 1 end
  end
  return count
end

-- Returns two functions for a long session: one that returns the indices, from 0 on, of those
-- tracks of a list that it has heard, and one that sets the bits of tracks. They are made when a
-- session is long: what every call of a script makes costs all of them.
local function long_session(session, bitmap)
  local LARGE = 2 ^ 18 -- of 32 KiB, which a bitmap then takes at most
  local SHARED = 65521 -- a prime, so ids made of fields are spread over all of them
  local WHOLE, WITH_LARGE, OWN = 0, 1, 2 -- bits; the first of a byte is its highest
  local fmod, max = math.fmod, math.max

  -- Returns where the bits of some tracks are, from OWN on, the last of these places, and whether
  -- an id among them shares its bit.
  local function places_of(tracks, count)
    local places = {struct.unpack('<' .. string.rep('I8', count), tracks)}
    places[count + 1] = nil -- struct appends the position where it stopped
    local last = max(unpack(places))
    if last < LARGE then return places, last, false end
    for i = 1, count do
      if places[i] >= LARGE then places[i] = fmod(places[i], SHARED) end
    end
    return places, max(unpack(places)), true
  end

  local function heard_of(tracks, count)
    local places, last, shared = places_of(tracks, count)
    local bytes = redis.call('GETRANGE', bitmap, 0, math.floor((last + OWN) / 8))
    local masks, head = {[0] = 128, 64, 32, 16, 8, 4, 2, 1}, byte(bytes) or 0
    local whole, found, n = head >= masks[WHOLE], {}, 0
    for i = 1, count do
      local bit = places[i] + OWN
      local at = bit % 8
      local mask, part = masks[at], byte(bytes, (bit - at) / 8 + 1) or 0
      if part % (2 * mask) >= mask or not whole then
        n = n + 1
        found[n] = i - 1
      end
    end
    shared = shared or head % masks[WHOLE] >= masks[WITH_LARGE]
    if n == 0 or whole and not shared then return found end

    local ids, sure = {}, {}
    for i = 1, n do ids[i] = sub(tracks, 8 * found[i] + 1, 8 * found[i] + 8) end
    local heard = redis.call('HMGET', session, unpack(ids))
    for i = 1, n do
      if heard[i] then sure[#sure + 1] = found[i] end
    end
    return sure
  end

  local function set_bits(tracks, whole)
    local places, _, shared = places_of(tracks, #tracks / 8)
    for i = 1, #places do redis.call('SETBIT', bitmap, places[i] + OWN, 1) end
    if shared then redis.call('SETBIT', bitmap, WITH_LARGE, 1) end
    if whole then redis.call('SETBIT', bitmap, WHOLE, 1) end
  end

  return heard_of, set_bits
end

-- Writes a session's `state`, and that after `position` answers it has heard two more tracks.
-- Returns whether it is long. `set_bits` is that of a long session, where whoever calls has it.
local function write_heard(heard, session, bitmap, state, position, reported, served, set_bits)
  if heard then
    heard = heard_after(heard, reported, served)
    if #heard <= 8 * SHORT then
      redis.call('HSET', session, 'state', state, 'heard', heard)
      return false
    end
  end
  set_bits = set_bits or select(2, long_session(session, bitmap))
  if not heard then
    redis.call('HSET', session, 'state', state, reported, 2 * position, served, 2 * position + 1)
    set_bits(reported .. served, false)
    return true
  end
  local ids, fields = ids_in(heard), {}
  for i, id in ipairs(ids) do
    fields[2 * i - 1], fields[2 * i] = id, 2 * position + 1 - #ids + i
  end
  redis.call('UNLINK', bitmap)
  redis.call('HSET', session, 'state', state, unpack(fields))
  redis.call('HDEL', session, 'heard')
  set_bits(heard, true)
  return true
end
