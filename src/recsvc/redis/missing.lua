-- Tells which entries of a stream are not there.
--
-- KEYS   the stream
-- ARGV   entries
-- Returns their places among the arguments, from 0 on.

local missing = {}
for i, entry in ipairs(ARGV) do
  if #redis.call('XRANGE', KEYS[1], entry, entry) == 0 then missing[#missing + 1] = i - 1 end
end
return missing
