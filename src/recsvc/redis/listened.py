"""What sessions have heard, as `heard.lua` keeps it."""

from collections.abc import Sequence
from itertools import islice
from operator import itemgetter

from recsvc.errors import StoreUnavailableError
from recsvc.redis.caller import Caller
from recsvc.redis.keys import Keys
from recsvc.redis.resp import command
from recsvc.redis.script import Script
from recsvc.tracks import pack_tracks, unpack_tracks

__all__ = ["Listened"]

_PAGE = 1000  # tracks in one reply; whoever shares the connection waits for it
_TRACK = 8  # bytes, which no other field of a session has as its name
_KEPT = 1000  # tracks heard longest ago, so a long session is seldom looked through for them


class Listened:
    """Reads what listeners' sessions have heard. `ttl` is in seconds."""

    def __init__(self, caller: Caller, keys: Keys, *, ttl: int) -> None:
        self._caller = caller
        self._keys = keys
        self._ttl = ttl * 1000
        self._count = Script("heard.lua", "count.lua")
        self._oldest = Script("oldest.lua")

    async def count(self, user: int) -> int:
        """Return how many tracks the session has heard."""
        counted: int = await self._count.run(self._caller, [self._keys.session(user)], [])
        return counted

    async def which(self, user: int, tracks: Sequence[int]) -> list[bool]:
        """Tell which of some tracks the session has heard."""
        if not tracks:
            return []
        session = self._keys.session(user)
        ids = [pack_tracks([track]) for track in tracks]
        short, *values = await self._caller.call(command("HMGET", session, "heard", *ids))
        if short is None:
            return [value is not None for value in values]
        heard = set(unpack_tracks(short))
        return [track in heard for track in tracks]

    async def all(self, user: int) -> list[int]:
        """Return the tracks of the session, those heard longest ago first."""
        short = await self._short(user)
        return unpack_tracks(b"".join(await self._when(user)) if short is None else short)

    async def oldest(self, user: int, most: int) -> list[int]:
        """Return `most` tracks of the session, or all if it has fewer, longest ago first.

        Of a long one a thousand are kept beside it, for to find them costs by all it has heard.
        """
        short = await self._short(user)
        if short is not None:
            return unpack_tracks(short)[:most]
        found = await self._kept(user, most)
        if len(found) < most:
            when = await self._when(user)
            kept = [track + b"%d" % at for track, at in islice(when.items(), _KEPT)]
            found = await self._kept(user, most, kept)
        return found[:most]

    async def _kept(self, user: int, most: int, instead: Sequence[bytes] = ()) -> list[int]:
        keys = [self._keys.session(user), self._keys.oldest(user)]
        found = await self._oldest.run(self._caller, keys, [most, self._ttl, *instead])
        return unpack_tracks(b"".join(found))

    async def _short(self, user: int) -> bytes | None:
        """Return what a short session has heard, longest ago first; None for any other."""
        session = self._keys.session(user)
        found: bytes | None = await self._caller.call(command("HGET", session, "heard"))
        return found

    async def _when(self, user: int) -> dict[bytes, int]:
        """Return what a long session has heard, and when: longest ago first.

        Others claim meanwhile, so a track may come twice: then as it came last.
        """
        session, cursor = self._keys.session(user), b"0"
        when: dict[bytes, int] = {}
        while True:
            cursor, page = await self._caller.call(
                command("HSCAN", session, cursor, "COUNT", _PAGE)
            )
            fields = zip(page[::2], page[1::2], strict=True)
            try:
                when.update({name: int(value) for name, value in fields if len(name) == _TRACK})
            except ValueError as error:
                raise StoreUnavailableError("the listener's session is damaged") from error
            if cursor == b"0":
                return dict(sorted(when.items(), key=itemgetter(1)))
