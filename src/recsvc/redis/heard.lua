-- What a session has heard. The scripts that need it begin with this text.
--
-- A track is 8 bytes, little-endian. Up to SHORT tracks are one string, in the order in which
-- they were last heard: the field `heard` of the session hash. More are a set and, for their
-- order, a sorted set beside the hash, which then has no such field.

-- Found once, and not for each track of a session.
local byte, find, sub = string.byte, string.find, string.sub

local SHORT = 128 -- as many strings as a set may have in a listpack, which is searched end to end

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
local function has_heard(heard, listened, id)
  if heard then return index_in(heard, id) ~= nil end
  return redis.call('SISMEMBER', listened, id) == 1
end

-- Notes that a session, after `position` answers, has heard two more tracks. Returns what is
-- to be the hash's field `heard`, nil if there is to be none.
local function add_heard(heard, session, listened, order, position, reported, served)
  if not heard then
    redis.call('SADD', listened, reported, served)
    redis.call('ZADD', order, 2 * position, reported, 2 * position + 1, served)
    return nil
  end
  heard = heard_after(heard_after(heard, reported), served)
  if #heard <= 8 * SHORT then return heard end
  local ids, scored = ids_in(heard), {}
  for i, id in ipairs(ids) do
    scored[2 * i - 1], scored[2 * i] = 2 * position + 1 - #ids + i, id
  end
  redis.call('DEL', listened, order)
  redis.call('SADD', listened, unpack(ids))
  redis.call('ZADD', order, unpack(scored))
  redis.call('HDEL', session, 'heard')
  return nil
end
