-- What a session is, but for what it has heard: the field `state` of its hash. One text for all
-- of it, which a person can read too: each field of a hash costs some half a microsecond an
-- answer, and 60 bytes a listener. `state.py` reads it too.
--
-- `counted` names the table that `outside` was counted with. From `served` on it is the latest
-- answer, from `track` on what was known of that before it was chosen: the report. What goes on as
-- it is stays together, for each value that is taken out and put in costs a tenth of a microsecond.

local SESSION = '^id=(%S+) recommender=(%S+) position=(%d+)()'
local COUNT = '^ outside=(%d+) counted=(%S*) started=(%d+)$'
local LATEST = ' served=(%d+)( track=%d+ time=%S+ at=(%d+) policy=%S+ table=%S*)$'

-- Returns id, recommender, position and what `read_count` reads, all as text; nothing if there is
-- no session.
local function read_session(state)
  if not state then return end
  local id, recommender, position, at = string.match(state, SESSION)
  local latest = at and string.find(state, ' served', at, true)
  if latest then return id, recommender, position, string.sub(state, at, latest - 1) end
end

-- Returns `outside`, `counted` and `started`, as text; nothing if that cannot be read.
local function read_count(count)
  return string.match(count, COUNT)
end

local function write_count(outside, counted, started)
  return ' outside=' .. outside .. ' counted=' .. counted .. ' started=' .. started
end

-- Returns what was served in the latest answer, the report before it, and when that was, as text.
local function read_latest(state)
  if state then return string.match(state, LATEST) end
end

local function write_state(id, recommender, position, count, served, report)
  return 'id=' .. id .. ' recommender=' .. recommender .. ' position=' .. position .. count
    .. ' served=' .. served .. report
end
