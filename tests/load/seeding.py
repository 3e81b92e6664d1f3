"""Sessions put into Redis beforehand: long ones, and a great many.

One session is made by the service itself and then copied, key by key, so it has whatever
form the service gives it. Only once it has the form of a long one are tracks added here;
that they are understood is checked through the API.
"""

import http.client
import json
from contextlib import closing
from random import Random

from redis import Redis

from recsvc.redis.keys import Keys
from recsvc.tracks import pack_tracks
from tests.load.errors import LoadError
from tests.load.stage import Target
from tests.load.store import Store
from tests.support import SET_BITS

__all__ = ["copy_session", "make_session"]

_AT_ONCE = 20_000  # listeners
_TRACKS_AT_ONCE = 1000
_RANGE = 4  # times the catalogue, of the ids in a history; a quarter of it is known

# One call copies a session to a run of listeners.
_COPY = """
for user = tonumber(ARGV[2]), tonumber(ARGV[3]) do
  for _, key in ipairs(KEYS) do
    local name = string.gsub(key, ':' .. ARGV[1] .. '$', ':' .. string.format('%.0f', user))
    redis.call('COPY', key, name, 'REPLACE')
  end
end
"""


def make_session(target: Target, user: int, listened: int) -> None:
    """Give a listener a session that has heard about `listened` tracks, two at least.

    Raises `LoadError` when the service does not see it so.
    """
    if target.store is None:
        raise LoadError(f"{target.name} keeps no sessions")
    keys, tracks = Keys(target.store.prefix), target.traffic.tracks
    history = Random(user).sample(range(_RANGE * tracks), max(listened, 1))
    with (
        closing(http.client.HTTPConnection(*target.address, timeout=10.0)) as api,
        Redis.from_url(target.store.url) as redis,
    ):
        _call(api, "DELETE", f"/user/{user}")
        heard: set[int] = set()
        while not heard or (len(heard) < listened and not redis.exists(keys.bitmap(user))):
            body = b'{"track":%d,"time":0.5}' % history[len(heard)]
            heard |= {history[len(heard)], _call(api, "POST", f"/next/{user}", body)["track"]}
        if len(heard) < listened:
            more = [track for track in history if track not in heard][: listened - len(heard)]
            _add(redis, keys, user, more, tracks)
            heard |= set(more)
        found = _call(api, "GET", f"/user/{user}")["listened"]
    if found != len(heard):
        raise LoadError(f"a session of {len(heard)} tracks was written, the service sees {found}")


def copy_session(store: Store, user: int, first: int, count: int) -> None:
    """Give the session of `user` to `count` listeners from `first` on."""
    with Redis.from_url(store.url, socket_timeout=60.0) as redis:
        keys = [key.decode() for key in redis.scan_iter(f"{store.prefix}:*:{user}", count=10_000)]
        copy = redis.register_script(_COPY)
        for start in range(first, first + count, _AT_ONCE):
            end = min(start + _AT_ONCE, first + count) - 1
            copy(keys=keys, args=[user, start, end])


def _add(redis: "Redis", keys: Keys, user: int, tracks: list[int], catalogue: int) -> None:
    """Put tracks into a long session, as heard before all that is in it."""
    set_bits = redis.register_script(SET_BITS)
    for start in range(0, len(tracks), _TRACKS_AT_ONCE):
        ids = [pack_tracks([track]) for track in tracks[start : start + _TRACKS_AT_ONCE]]
        redis.hset(keys.session(user), mapping={t: -start - at - 1 for at, t in enumerate(ids)})
        set_bits(keys=[keys.bitmap(user)], args=[b"".join(ids)])
    outside = sum(track >= catalogue for track in tracks)
    state = redis.hget(keys.session(user), "state")
    assert isinstance(state, bytes)
    head, _, rest = state.partition(b"outside=")
    before, _, tail = rest.partition(b" ")
    redis.hset(
        keys.session(user), "state", b"%boutside=%d %b" % (head, int(before) + outside, tail)
    )


def _call(
    api: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> dict[str, int]:
    api.request(method, path, body)
    answer = api.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise LoadError(f"{method} {path}: {content!r}")
    found: dict[str, int] = json.loads(content)
    return found
