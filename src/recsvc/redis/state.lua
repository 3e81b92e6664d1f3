-- What a session is, but for what it has heard: the field `state` of its hash. One text for all
-- of it, which a person can read too: each field of a hash costs some half a microsecond an
-- answer, and 60 bytes a listener.
--
-- `counted` names the table that `outside` was counted with; `track` to `table` are of the
-- latest answer. `state.py` reads it too.

local SESSION = '^id=(%S+) recommender=(%S+) position=(%d+) outside=(%d+) counted=(%S*) started=(%d+) '
local LATEST = ' track=(%d+) time=(%S+) served=(%d+) at=(%d+) policy=(%S+) table=(%S*)$'

-- Returns the values in this order, the numbers as text; nothing if there is no session.
local function read_session(state)
  if state then return string.match(state, SESSION) end
end

-- Returns the values of the latest answer, likewise.
local function read_latest(state)
  if state then return string.match(state, LATEST) end
end

local function write_state(id, recommender, position, outside, counted, started, track, time,
    served, at, policy, version)
  return 'id=' .. id .. ' recommender=' .. recommender .. ' position=' .. position
    .. ' outside=' .. outside .. ' counted=' .. counted .. ' started=' .. started
    .. ' track=' .. track .. ' time=' .. time .. ' served=' .. served .. ' at=' .. at
    .. ' policy=' .. policy .. ' table=' .. version
end
