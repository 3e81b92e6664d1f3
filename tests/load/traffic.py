"""What the load generators ask: which listeners, which tracks, as bytes and for wrk."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

__all__ = ["Traffic", "post"]

_LUA = """\
math.randomseed(%(seed)d)
local random = math.random

function request()
  local user = %(first)d + random(0, %(users)d - 1)
  local body = '{"track":' .. random(0, %(tracks)d - 1)
    .. ',"time":' .. random(0, 100) / 100 .. '}'
  return 'POST /next/' .. user .. ' HTTP/1.1\\r\\nHost: bench\\r\\nContent-Length: ' .. #body
    .. '\\r\\n\\r\\n' .. body
end

function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.timeout + errors.status
  io.write(string.format('RESULT %%d %%d %%d %%d %%d %%d %%d\\n', summary.requests, failed,
    summary.duration, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency:percentile(99.9)))
end
"""


def post(path: str, body: bytes) -> bytes:
    """Write a request; the answer keeps the connection."""
    return b"POST %s HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n%s" % (
        path.encode(),
        len(body),
        body,
    )


@dataclass(frozen=True, slots=True)
class Traffic:
    """`POST /next/{user}` of `users` listeners from `first` on, about tracks 0..tracks-1.

    All listeners, tracks and times are equally likely: no cache is flattered.
    """

    first: int
    users: int
    tracks: int

    def requests(self, count: int, seed: int = 0) -> list[bytes]:
        """Write some requests; the same seed gives the same."""
        rng = Random(seed)
        return [self._request(rng, rng.randrange(self.tracks)) for _ in range(count)]

    def each_track_once(self, most: int, seed: int = 0) -> list[bytes]:
        """Write a request about each track, in random order, but not more than `most`."""
        rng = Random(seed)
        tracks = rng.sample(range(self.tracks), min(self.tracks, most))
        return [self._request(rng, track) for track in tracks]

    def batches(self, count: int, size: int, seed: int = 0) -> list[bytes]:
        """Write some `POST /next` of `size` items each, every one of another listener."""
        rng = Random(seed)
        return [post("/next", self._batch(rng, size)) for _ in range(count)]

    def lua(self, seed: int = 0) -> str:
        """Write the same traffic as a script of wrk, which ends in a line of figures."""
        return _LUA % {
            "seed": seed,
            "first": self.first,
            "users": self.users,
            "tracks": self.tracks,
        }

    def _request(self, rng: Random, track: int) -> bytes:
        user = self.first + rng.randrange(self.users)
        return post(f"/next/{user}", b'{"track":%d,"time":%.2f}' % (track, rng.random()))

    def _batch(self, rng: Random, size: int) -> bytes:
        users: Sequence[int] = rng.sample(range(self.first, self.first + self.users), size)
        items = [
            b'{"user":%d,"track":%d,"time":%.2f}' % (user, rng.randrange(self.tracks), rng.random())
            for user in users
        ]
        return b"[%s]" % b",".join(items)
