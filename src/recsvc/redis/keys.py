"""The names of all keys, in one place.

The braces make one listener's keys and the stream of their events share a Cluster
slot, so that one script may touch them all. Listeners are spread over `partitions`
such slots; the number is fixed for the life of a deployment.

    recsvc:{0}:session:17     hash    the session as one text (state.lua), the tracks heard in
                                      it (heard.lua), and what its policy keeps
    recsvc:{0}:bitmap:17      string  the tracks heard in a long one, a bit each
    recsvc:{0}:oldest:17      list    some that were heard longest ago in it (oldest.lua), where
                                      the whole catalogue has been heard
    recsvc:{0}:idem:17:4711   hash    answers by idempotency key, one key a time window
    recsvc:{0}:events         stream  what was heard and served
    recsvc:{0}:forgotten      zset    who asked to be forgotten, by when
    recsvc:{0}:replayed       hash    how far each worker's records have been replayed
    recsvc:{0}:probe          string  whether anything can be written
    recsvc:{tables}:live      hash    which table version is live, and which was before
    recsvc:{tables}:versions  zset    tables that are stored, by when they were written
    recsvc:{tables}:table:3f9c...  hash  one table: its manifest and its chunks
"""

from dataclasses import dataclass

__all__ = ["Keys"]


@dataclass(frozen=True, slots=True)
class Keys:
    """Makes key names under one prefix."""

    prefix: str = "recsvc"
    partitions: int = 1

    def session(self, user: int) -> str:
        """The hash that holds a listener's session."""
        return f"{self.prefix}:{{{user % self.partitions}}}:session:{user}"

    def bitmap(self, user: int) -> str:
        """The tracks heard in a long session, a bit each."""
        return f"{self.prefix}:{{{user % self.partitions}}}:bitmap:{user}"

    def oldest(self, user: int) -> str:
        """Some of the tracks that were heard longest ago in a long session."""
        return f"{self.prefix}:{{{user % self.partitions}}}:oldest:{user}"

    def ended(self, user: int) -> str:
        """Which session of a listener ended last in an outage."""
        return f"{self.prefix}:{{{user % self.partitions}}}:ended:{user}"

    def idempotency(self, user: int, window: int) -> str:
        """The answers given by idempotency key in one window of time."""
        return f"{self.prefix}:{{{user % self.partitions}}}:idem:{user}:{window}"

    def events(self, partition: int) -> str:
        """The stream of a partition's events."""
        return f"{self.prefix}:{{{partition}}}:events"

    def forgotten(self, partition: int) -> str:
        """Who asked to be forgotten, scored by when (Unix ms)."""
        return f"{self.prefix}:{{{partition}}}:forgotten"

    def of_session(self, user: int, window: int) -> tuple[str, ...]:
        """The keys that the scripts of one listener's session touch, in order; not all by each."""
        return (
            self.session(user),
            self.bitmap(user),
            self.events(user % self.partitions),
            self.idempotency(user, window),
            self.idempotency(user, window - 1),
            self.oldest(user),
            self.idempotency(user, window - 2),  # not asked any more, but perhaps still there
            self.ended(user),
        )

    def replayed(self, partition: int) -> str:
        """How far each worker's records of a partition have been replayed."""
        return f"{self.prefix}:{{{partition}}}:replayed"

    @property
    def probe(self) -> str:
        """What is written to find out whether writing works."""
        return f"{self.prefix}:{{0}}:probe"

    @property
    def live(self) -> str:
        """The pointer: fields `version`, `previous`."""
        return f"{self.prefix}:{{tables}}:live"

    @property
    def versions(self) -> str:
        """The stored tables, scored by when they were written (Unix seconds)."""
        return f"{self.prefix}:{{tables}}:versions"

    def table(self, version: str) -> str:
        """One published table: field `manifest`, and a field for each chunk number."""
        return f"{self.prefix}:{{tables}}:table:{version}"

    @property
    def channel(self) -> str:
        """Where a publication is announced. Only a hint: the pointer is the truth."""
        return f"{self.prefix}:tables"
