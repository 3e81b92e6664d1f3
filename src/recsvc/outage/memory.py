"""What each listener has heard lately, in memory that the workers of a machine share.

The session store knows it exactly. This is for when it is away: then a track that the
session has heard must not come again, whichever worker answers. A listener has a Bloom
filter of the tracks: it never forgets one, and takes few others for heard (1% in a session
of 150 tracks). Beside it, how many answers the store has yet to learn of, and what the
switch rule asks about.

The filters are in one mapped file, in sets of four. A listener belongs to one set; a new
one takes the place that has been idle longest. A file, so that a restart forgets nothing;
but nobody waits for it, so what a power cut leaves is only good enough for a guess.
"""

import fcntl
import logging
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsvc.session import Last

__all__ = ["Memory", "Place"]

_log = logging.getLogger(__name__)

_WAYS = 4
_FILTER = 256  # bytes: three bits of the 2,048 are set for a track
_EMPTY = bytes(_FILTER)
_USERS = struct.Struct("<4Q")  # listener plus one; 0 is nobody
_TIMES = struct.Struct("<4I")  # Unix seconds of the last answer
_TIME = struct.Struct("<I")
_COUNT = struct.Struct("<H")
_BEGAN = struct.Struct("<Q")  # Unix milliseconds
_TIMES_AT, _SINCE_AT, _PENDING_AT, _HEARD_AT, _LAST_AT = 32, 48, 64, 72, 80
_BEGAN_AT, _FILTERS_AT = 88, 120
_SET = _FILTERS_AT + _WAYS * _FILTER
_MOST = 0xFFFF
_WORD = (1 << 64) - 1
_NO_FILE = -1
_NOBODY = Last(None)

Place = tuple[int, int]
"""Where a listener is: the offset of the set, and which of its four places."""


class Memory:
    """What about `listeners` listeners have heard, shared through a file in `directory`.

    Without a directory it is this process's own, and forgotten with it.
    Sessions idle for `ttl` seconds are forgotten. Who answered last is remembered if it has
    one of the `names`. Times are Unix seconds.
    """

    def __init__(
        self, directory: Path | None, *, listeners: int, ttl: float, names: tuple[str, ...]
    ) -> None:
        self.sets = max(listeners // _WAYS, 1)
        self.ttl = ttl
        known = [(name, spent) for spent in (False, True) for name in (None, *names)]
        self._codes = {last: code for code, last in enumerate(known)}
        self._lasts = tuple(Last(*last) for last in known)
        self._file = _NO_FILE if directory is None else _open(directory, self.sets)
        self._map = mmap.mmap(self._file, self.sets * _SET, flags=_FLAGS)

    def close(self) -> None:
        """Let go of the file; what is in it stays."""
        self._map.close()
        if self._file != _NO_FILE:
            os.close(self._file)

    def place(self, user: int, now: float) -> Place:
        """Return a listener's place, taken over from another one if need be."""
        base = (_spread(user) >> 24) % self.sets * _SET
        users = _USERS.unpack_from(self._map, base)
        if user + 1 in users:
            way = users.index(user + 1)
            (at,) = _TIME.unpack_from(self._map, base + _TIMES_AT + 4 * way)
            if now - at > self.ttl:
                self._reset((base, way), user, now)
            return base, way
        way = self._oldest(base, users)
        self._reset((base, way), user, now)
        return base, way

    def holds(self, place: Place, user: int) -> bool:
        """Tell whether a place is still this listener's."""
        base, way = place
        return bool(_USERS.unpack_from(self._map, base)[way] == user + 1)

    def note(
        self,
        place: Place,
        now: float,
        reported: int,
        served: int,
        recommender: str,
        *,
        new: bool,
        spent: bool = False,
    ) -> None:
        """Remember that a track was reported and one was served; `new` begins a session."""
        base, way = place
        memory = self._map
        if new:
            self.forget(place, now)
        start = base + _FILTERS_AT + way * _FILTER
        for track in (reported, served):
            bits = _spread(track)
            memory[start + (bits >> 56)] |= 1 << (bits >> 53 & 7)
            memory[start + (bits >> 45 & 255)] |= 1 << (bits >> 42 & 7)
            memory[start + (bits >> 34 & 255)] |= 1 << (bits >> 31 & 7)
        _TIME.pack_into(memory, base + _TIMES_AT + 4 * way, int(now))
        self._add(base + _HEARD_AT + 2 * way, 1)
        memory[base + _LAST_AT + way] = self._codes.get((recommender, spent), 0)

    def forget(self, place: Place, now: float = 0.0) -> None:
        """Forget what was heard: a session has ended, the next begins `now` (0: that is unknown).

        What is pending stays so.
        """
        base, way = place
        _BEGAN.pack_into(self._map, base + _BEGAN_AT + 8 * way, int(now * 1000))
        start = base + _FILTERS_AT + way * _FILTER
        self._map[start : start + _FILTER] = _EMPTY
        _COUNT.pack_into(self._map, base + _HEARD_AT + 2 * way, 0)
        self._map[base + _LAST_AT + way] = 0

    def heard(self, place: Place, track: int) -> bool:
        """Tell whether a track was heard; rarely also of one that was not."""
        base, way = place
        memory, bits = self._map, _spread(track)
        start = base + _FILTERS_AT + way * _FILTER
        return bool(
            memory[start + (bits >> 56)] >> (bits >> 53 & 7)
            & memory[start + (bits >> 45 & 255)] >> (bits >> 42 & 7)
            & memory[start + (bits >> 34 & 255)] >> (bits >> 31 & 7)
            & 1
        )

    def answers(self, place: Place) -> int:
        """Return how many answers of the session are remembered."""
        return self._count(place[0] + _HEARD_AT + 2 * place[1])

    def last(self, place: Place) -> Last:
        """Return who answered last, None when that is not known."""
        code = self._map[place[0] + _LAST_AT + place[1]]
        return self._lasts[code] if code < len(self._lasts) else _NOBODY

    def began(self, place: Place) -> int:
        """Return since when there is no earlier session, in Unix milliseconds; 0 if unknown."""
        (began,) = _BEGAN.unpack_from(self._map, place[0] + _BEGAN_AT + 8 * place[1])
        return int(began)

    def pending(self, place: Place) -> int:
        """Return how many answers the session store has yet to learn of."""
        return self._count(place[0] + _PENDING_AT + 2 * place[1])

    def pending_since(self, place: Place) -> int:
        """Return since when there have been any, in Unix seconds."""
        (since,) = _TIME.unpack_from(self._map, place[0] + _SINCE_AT + 4 * place[1])
        return int(since)

    def pend(self, place: Place, now: float) -> None:
        """Note that there is one more."""
        base, way = place
        _TIME.pack_into(self._map, base + _TIMES_AT + 4 * way, int(now))
        if not self.pending(place):
            _TIME.pack_into(self._map, base + _SINCE_AT + 4 * way, int(now))
        self._add(base + _PENDING_AT + 2 * way, 1)

    def learned(self, place: Place) -> None:
        """Note that there is one less."""
        self._add(place[0] + _PENDING_AT + 2 * place[1], -1)

    def settle(self, place: Place) -> None:
        """Note that there are none."""
        _COUNT.pack_into(self._map, place[0] + _PENDING_AT + 2 * place[1], 0)

    @contextmanager
    def turn(self, place: Place) -> Iterator[None]:
        """Keep other workers from the listeners of this set, unless one of them hangs."""
        base = place[0]
        held = self._lock(base)
        try:
            yield
        finally:
            if held:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, base)

    def _lock(self, base: int) -> bool:
        # What is done in a turn takes microseconds, so a few tries are a long wait. A
        # worker that was stopped in its turn must not stop all others.
        for _ in range(200 if self._file != _NO_FILE else 0):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, base)
            except OSError:
                os.sched_yield()
            else:
                return True
        return False

    def _reset(self, place: Place, user: int, now: float) -> None:
        base, way = place
        self.forget(place)
        self.settle(place)
        _TIME.pack_into(self._map, base + _TIMES_AT + 4 * way, int(now))
        struct.pack_into("<Q", self._map, base + 8 * way, user + 1)

    def _oldest(self, base: int, users: tuple[int, ...]) -> int:
        """Choose whose place is taken: nobody's, or of those with nothing pending the idlest."""
        times = _TIMES.unpack_from(self._map, base + _TIMES_AT)
        return min(
            range(_WAYS),
            key=lambda way: (users[way] != 0, self.pending((base, way)) > 0, times[way]),
        )

    def _count(self, at: int) -> int:
        return self._map[at] | self._map[at + 1] << 8

    def _add(self, at: int, change: int) -> None:
        _COUNT.pack_into(self._map, at, min(max(self._count(at) + change, 0), _MOST))


# All pages at once, where the system can: memory that is not there yet costs at the worst
# moment, and makes a service look as if it leaked.
_FLAGS = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)


def _open(directory: Path, sets: int) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    # The name says the layout: another one gets another file.
    path = directory / f"heard-{sets}x{_SET}"
    file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        # A disk that is full is to be found out now: later it would end the process.
        os.posix_fallocate(file, 0, sets * _SET)
    except OSError as error:
        os.close(file)
        _log.warning("no room for what listeners heard, so workers do not share it: %s", error)
        return _NO_FILE
    return file


def _spread(number: int) -> int:
    """Spread an id over 64 bits, the upper ones above all: those who are close come far apart."""
    return (number ^ number >> 32) * 0x9E3779B97F4A7C15 & _WORD
