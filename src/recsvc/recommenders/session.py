"""The policy `session`: what the session is after is inferred, and the best of it is served."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from recsvc.evidence import NO_EVIDENCE, Evidence
from recsvc.policy import CONTEXTUAL, PERSONAL, POPULAR, Candidates, Plan, Pool, draw
from recsvc.recommenders.source import NOTHING, Source
from recsvc.shortlist import Heard, shortlist
from recsvc.table import Array
from recsvc.taste import Belief, SessionModel, predict, prior, update

__all__ = [
    "SESSION",
    "Forecast",
    "SessionPolicy",
    "Step",
    "believe",
    "forecast",
    "learn",
    "walk",
]

SESSION = "session"

_LEAST_EXPLORATION = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """What is expected of the best candidates, the best first; all arrays are `[m]`.

    `times` are what will be heard. They are `discounts` (for repeats of the artist) times the
    mean of the logistic of a Gaussian, whose mean is `logits` and whose standard deviation
    `deviations`.
    """

    tracks: Array
    times: Array
    discounts: Array
    logits: Array
    deviations: Array

    def __len__(self) -> int:
        return len(self.tracks)


class SessionPolicy:
    """Serves the unheard track of most predicted time, and now and then another good one.

    With probability `exploration` the answer is a uniform draw among the `candidates` best, so
    that the log says what would have become of them; every propensity is exact. Without a
    session model in the table the pools of the other recommenders answer.
    """

    name = SESSION

    def __init__(self, exploration: float, candidates: int) -> None:
        self.exploration = exploration
        self.candidates = candidates

    def plan(self, source: Source, user: int, track: int, time: float, rng: Random) -> Plan:
        """Plan the answer in a session of which nothing is known."""
        return self.recall(source, user, track, time, rng, NO_EVIDENCE, ())[0]

    def recall(
        self,
        source: Source,
        user: int,
        track: int,
        time: float,
        rng: Random,
        evidence: Evidence,
        served: Sequence[int],
    ) -> tuple[Plan, Evidence | None]:
        """Plan the answer from what the session has heard before this report.

        `served` are tracks that went out and are not to go out again. Also returns the
        evidence to keep, this report included; None without a session model.
        """
        best, kept = NOTHING, None
        if source.session_model is not None:
            kept = learn(source, evidence, track, time)
            found = forecast(source, kept, served, self.candidates)
            best = Candidates(found.tracks.tolist(), self._weights(len(found)))
        offers = (
            (SESSION, best),
            (CONTEXTUAL, source.neighbours(track)),
            (PERSONAL, source.personal(user)),
            (POPULAR, source.popular),
        )
        made = draw(rng)
        pools = tuple(Pool(name, found, made) for name, found in offers)
        return Plan(pools, {None: tuple(range(len(pools)))}), kept

    def _weights(self, count: int) -> list[float]:
        """Weigh candidates, the best first: the draw's probabilities."""
        if count == 0:
            return []
        # Not zero: the best may turn out to be heard, and then the others are drawn from.
        share = max(self.exploration, _LEAST_EXPLORATION)
        even = share / count
        return [1.0 - share + even, *([even] * (count - 1))]


def learn(source: Source, evidence: Evidence, track: int, time: float) -> Evidence:
    """Return the evidence after one more report, with the belief of this source's model.

    Of a repeat the time says nothing, and of a track that the table lacks.
    """
    index = source.table.index(track)
    grown = evidence.with_heard(track, time)  # another model may know what this one does not
    belief = _own_belief(source, evidence)
    if belief is None:
        belief = believe(source, grown)
    elif index is not None and not bool((evidence.tracks == track).any()):
        artists = source.table.artist[_rows(source, evidence)]
        plays = int((artists == source.table.artist[index]).sum())
        belief = update(_model(source), belief, index, time, plays)
    return Evidence(grown.tracks, grown.times, source.version, belief)


def _own_belief(source: Source, evidence: Evidence) -> Belief | None:
    """Return the belief if this source's model made it."""
    belief = evidence.belief
    if belief is None or evidence.version != source.version:
        return None
    return belief if len(belief.mean) == len(_model(source).opening) else None


def believe(source: Source, evidence: Evidence) -> Belief:
    """Form a belief from nothing but what was heard: the first track sets it, the others move it.

    Costs one update a track; it is what a new model does once in each session under way.
    """
    belief = None
    for step in walk(source, evidence):
        belief = step.after
    return belief or prior(_model(source), None, 0.0)


@dataclass(frozen=True, slots=True)
class Step:
    """One track of a session, by its row: the belief `before` it (None before the first)."""

    row: int
    time: float
    plays: int
    before: Belief | None
    after: Belief


def walk(source: Source, evidence: Evidence) -> Iterator[Step]:
    """Go through what was heard, and how it moves the belief.

    Repeats, of which the time says nothing, and tracks that the table lacks are left out.
    """
    model, table = _model(source), source.table
    rows = [table.index(track) for track in evidence.tracks.tolist()]
    plays, known = Counter[int](), set[int]()
    # After a first track that the table lacks, no other is the first.
    belief = prior(model, None, 0.0) if rows and rows[0] is None else None
    for row, time in zip(rows, evidence.times.tolist(), strict=True):
        if row is None:
            continue
        artist, before = int(table.artist[row]), belief
        if row not in known:
            if before is None:
                belief = prior(model, row, time)
            else:
                belief = update(model, before, row, time, plays[artist])
            yield Step(row, time, plays[artist], before, belief)
        plays[artist] += 1
        known.add(row)


def forecast(source: Source, evidence: Evidence, served: Sequence[int], count: int) -> Forecast:
    """Foresee the `count` unheard tracks of most predicted time."""
    model, table = _model(source), source.table
    belief = evidence.belief or prior(model, None, 0.0)
    rows = _rows(source, evidence)
    plays = np.zeros(len(table.artist_name_offsets) - 1, dtype=np.int64)
    np.add.at(plays, table.artist[rows], 1)
    unreported = set(served).difference(evidence.tracks.tolist())
    out = [row for row in map(table.index, unreported) if row is not None]
    heard = Heard(model.places[[*rows.tolist(), *out] if out else rows], plays)
    places = shortlist(model, belief, source.session_artists, heard, count)
    times, logits, deviations = predict(model, belief, places)
    found = model.rows[places]
    discounts = model.discount ** plays[table.artist[found]]
    times *= discounts
    best = np.argsort(-times, kind="stable")
    return Forecast(
        table.tracks[found[best]], times[best], discounts[best], logits[best], deviations[best]
    )


def _rows(source: Source, evidence: Evidence) -> Array:
    """Return the rows of the tracks heard that the table knows."""
    tracks = source.table.tracks
    if not len(tracks):
        return np.zeros(0, dtype=np.int64)
    rows = np.minimum(np.searchsorted(tracks, evidence.tracks), len(tracks) - 1)
    return np.asarray(rows[tracks[rows] == evidence.tracks])


def _model(source: Source) -> SessionModel:
    model = source.session_model
    if model is None:
        raise LookupError("the table has no session model")
    return model
