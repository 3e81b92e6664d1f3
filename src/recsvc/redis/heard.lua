-- What a session has heard. The scripts that need it begin with this text.
--
-- A track is 8 bytes, little-endian. Up to SHORT tracks are one string, in the order in which
-- they were last heard: the field `heard` of the session hash. More are a sorted set, scored by
-- when they were last heard, and a bitmap, both beside the hash, which then has no such field.
--
-- In the bitmap a track has the bit of its id, counted from OWN on; ids from LARGE on share the
-- first SHARED of these bits with the small ones. WHOLE tells that no track is missing: one that
-- was lost and begun anew has not got that bit. WITH_LARGE tells that there are large ids. In a
-- whole bitmap without any a bit says it all; otherwise the sorted set is asked for those that
-- have one, or for all.

-- Found once, and not for each track of a session.
local byte, find, sub = string.byte, string.find, string.sub

local SHORT = 128 -- as many strings as a sorted set may have in a listpack, which is searched

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
  if high < 0x200000 then return string.format('%.0f', high * 0x100000000 + low) end
  local top = math.floor(high / 1e9)
  local middle = high % 1e9 * 0x10000 + math.floor(low / 0x10000)
  local bottom = middle % 1e9 * 0x10000 + low % 0x10000
  local head = top * 0x100000000 + math.floor(middle / 1e9) * 0x10000 + math.floor(bottom / 1e9)
  return string.format('%.0f%09.0f', head, bottom % 1e9)
end

-- Returns a short session's tracks after one more was heard.
local function heard_after(heard, id)
  local at = index_in(heard, id)
  if not at then return heard .. id end
  if 8 * at + 8 == #heard then return heard end -- it was the latest already
  return sub(heard, 1, 8 * at) .. sub(heard, 8 * at + 9) .. id
end

-- Tells whether a session has heard a track; `heard` is nil for a long one.
local function has_heard(heard, order, id)
  if heard then return index_in(heard, id) ~= nil end
  return redis.call('ZSCORE', order, id) ~= false
end

-- Returns two functions for a long session: one that returns the indices, from 0 on, of those
-- tracks of a list that it has heard, and one that sets the bits of tracks. They are made when a
-- session is long: what every call of a script makes costs all of them.
local function long_session(bitmap, order)
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
    local scores = redis.call('ZMSCORE', order, unpack(ids))
    for i = 1, n do
      if scores[i] then sure[#sure + 1] = found[i] end
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

-- Notes that a session, after `position` answers, has heard two more tracks. Returns what is
-- to be the hash's field `heard`, nil if there is to be none. `set_bits` is that of a long session,
-- where whoever calls has it.
local function add_heard(heard, session, bitmap, order, position, reported, served, set_bits)
  if not heard then
    set_bits = set_bits or select(2, long_session(bitmap, order))
    redis.call('ZADD', order, 2 * position, reported, 2 * position + 1, served)
    set_bits(reported .. served, false)
    return nil
  end
  heard = heard_after(heard_after(heard, reported), served)
  if #heard <= 8 * SHORT then return heard end
  set_bits = select(2, long_session(bitmap, order))
  local ids, scored = ids_in(heard), {}
  for i, id in ipairs(ids) do
    scored[2 * i - 1], scored[2 * i] = 2 * position + 1 - #ids + i, id
  end
  redis.call('UNLINK', bitmap, order)
  redis.call('ZADD', order, unpack(scored))
  set_bits(heard, true)
  redis.call('HDEL', session, 'heard')
  return nil
end
