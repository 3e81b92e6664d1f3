-- Tells which tracks a long session heard longest ago, of those that are kept as such.
--
-- KEYS   session hash, the list that keeps them
-- ARGV   how many are enough, ttl of the list in ms; then, to keep others in place of those, these,
--        heard longest ago first, each 8 bytes and the value that the hash had for it
-- Returns tracks, those heard longest ago first; fewer than enough where no more are kept that
--         have not been heard since.

local session, kept = unpack(KEYS)
local enough, ttl = tonumber(ARGV[1]), ARGV[2]

-- Returns those of some tracks, as they are kept, that have not been heard since.
local function not_heard_since(tracks)
  local ids, left = {}, {}
  for i, track in ipairs(tracks) do ids[i] = string.sub(track, 1, 8) end
  for i, value in ipairs(redis.call('HMGET', session, unpack(ids))) do
    if value == string.sub(tracks[i], 9) then left[#left + 1] = tracks[i] end
  end
  return left
end

if #ARGV > 2 then
  redis.call('UNLINK', kept)
  redis.call('RPUSH', kept, unpack(ARGV, 3))
end
local found, looked_at = {}, 0
repeat
  local page = redis.call('LRANGE', kept, looked_at, looked_at + enough - 1)
  looked_at = looked_at + #page
  for _, track in ipairs(#page > 0 and not_heard_since(page) or {}) do found[#found + 1] = track end
until #found >= enough or #page == 0

-- What has been heard since is kept no longer. Nor is anything of a session that is no more.
if looked_at > #found then
  redis.call('LTRIM', kept, looked_at, -1)
  for i = #found, 1, -1 do redis.call('LPUSH', kept, found[i]) end
end
redis.call('PEXPIRE', kept, ttl)
for i, track in ipairs(found) do found[i] = string.sub(track, 1, 8) end
return found
