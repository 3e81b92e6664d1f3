"""How the session store is doing, as figures that are read when they are asked for."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from recsvc.outage.guarded import GuardedSessions
from recsvc.outage.standby import Standby

__all__ = ["StoreFigures"]


class StoreFigures(Collector):
    """Whether the store is in use, and what waits for it, of one worker."""

    def __init__(self, sessions: GuardedSessions, standby: Standby) -> None:
        self.sessions = sessions
        self.standby = standby

    def collect(self) -> Iterator[Metric]:
        """Yield the figures as they are now."""
        breaker, recovery = self.sessions.breaker, self.sessions.recovery
        yield GaugeMetricFamily(
            "recsvc_store_away", "Whether the session store is not asked.", float(breaker.is_open)
        )
        yield GaugeMetricFamily(
            "recsvc_spool_bytes", "Events on disk for the store.", recovery.outbox.size
        )
        yield GaugeMetricFamily(
            "recsvc_spool_behind_bytes", "Of them, those not replayed yet.", recovery.behind
        )
        counted = (
            ("store_outages", "Times that the store was given up.", breaker.openings),
            ("events_spooled", "Events put on disk.", self.standby.spooled),
            ("events_dropped", "Events that could not be put on disk.", self.standby.dropped),
            ("events_replayed", "Events that the store learned of later.", recovery.tally.replayed),
            ("events_restored", "Events that the store had lost.", recovery.tally.restored),
            ("events_damaged", "Events that could not be read back.", recovery.tally.damaged),
            ("journal_faults", "Answers missing in the journal.", recovery.journal.failed),
        )
        for name, about, value in counted:
            yield CounterMetricFamily(f"recsvc_{name}", about, value)
