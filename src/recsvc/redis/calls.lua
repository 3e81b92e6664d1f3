-- Tells of which calls there are events in a piece of a stream.
--
-- KEYS   the stream
-- ARGV   first and last entry of the piece, how many entries to look at, then ids of calls
-- Returns the last entry that was looked at (empty when that was all), then for each event of
-- one of these calls its id and its entry.

local wanted = {}
for i = 4, #ARGV do wanted[ARGV[i]] = true end
local entries = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
local found = {#entries == tonumber(ARGV[3]) and entries[#entries][1] or ''}
for _, entry in ipairs(entries) do
  local id = string.match(entry[2][2], '^{"id":"(%x+)"')
  if id and wanted[id] then
    found[#found + 1] = id
    found[#found + 1] = entry[1]
  end
end
return found
