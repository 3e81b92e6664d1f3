"""What a session is after, inferred from what was heard in it, and what is foreseen of it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from recsvc.evidence import Evidence, pack, unpack
from recsvc.recommenders.forecast import Forecast
from recsvc.recommenders.source import Source
from recsvc.shortlist import NO_SHORTLIST, Heard, Shortlist, discounts_of, shortlist
from recsvc.table import Array
from recsvc.taste import Belief, SessionModel, predict, prior, update
from recsvc.tracks import unpack_tracks

__all__ = ["Step", "believe", "forecast", "infer", "learn", "walk"]

_MISS = 0.3  # heard for less, a track was not to the session's taste
_SPARE = 96  # tracks of a shortlist beyond those that are offered


def infer(
    source: Source,
    data: bytes | None,
    track: int,
    time: float,
    served: bytes,
    count: int,
) -> tuple[Forecast, bytes]:
    """Learn from one more report of a session, and foresee the `count` best for it.

    `data` is the evidence that the session kept, and what it is to keep now is returned. `served`
    are tracks that went out, packed, the latest last, and are not to go out again.
    """
    if source.native is not None:
        found = source.native.infer(data, track, time, served, count)
        if found is not None:
            return found
    known = learn(source, unpack(data), track, time)
    foreseen, listed = forecast(source, known, unpack_tracks(served), count)
    return foreseen, pack(known.with_shortlist(listed))


def learn(source: Source, evidence: Evidence, track: int, time: float) -> Evidence:
    """Return the evidence after one more report, with the belief of this source's model.

    Of a repeat the time says nothing, and of a track that the table lacks.
    """
    grown = evidence.with_heard(track, time)  # another model may know what this one does not
    belief = _own_belief(source, evidence)
    if belief is None:
        return grown.with_belief(source.version, believe(source, grown), NO_SHORTLIST)
    model, table, index = _model(source), source.table, source.table.index(track)
    # After a miss the session may be after something else than what was last looked for.
    found = evidence.shortlist if time >= _MISS else NO_SHORTLIST
    if index is None:
        found = found.after_report(None)
    else:
        artist = table.artist[index]
        found = found.without(int(model.places[index]))
        found = found.after_report(source.artists_at(found.places) == artist)
        if not np.count_nonzero(evidence.tracks == track):
            artists = table.artist.take(_rows(source, evidence))
            plays = int(np.count_nonzero(artists == artist))
            belief = update(model, belief, index, time, plays)
    return grown.with_belief(source.version, belief, found)


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


def forecast(
    source: Source, evidence: Evidence, served: Sequence[int], count: int
) -> tuple[Forecast, Shortlist]:
    """Foresee the `count` unheard tracks of most predicted time, `served` ones left out.

    They are taken from a shortlist, which is made anew when the belief has moved on; the one
    that they were taken from is returned too.
    """
    model, table = _model(source), source.table
    belief = evidence.belief or prior(model, None, 0.0)
    found = evidence.shortlist
    for place in _places(source, served[-1:]):
        found = found.without(place)
    if not found.serves(len(evidence), count) or found.places[-1] >= model.rows.size:
        found = _look(source, evidence, belief, served, _SPARE + count)
    discounts = discounts_of(model, found.plays)
    times, logits, deviations = predict(model, belief, found.places)
    times *= discounts
    best = (-times).argsort(kind="stable")[:count]
    tracks = table.tracks.take(model.rows.take(found.places[best]))
    numbers = np.stack((times, discounts, logits, deviations)).take(best, axis=1)
    return Forecast.of(tracks, numbers), found


def _look(
    source: Source, evidence: Evidence, belief: Belief, served: Sequence[int], count: int
) -> Shortlist:
    """Look for the best of a session in the catalogue."""
    model, table = _model(source), source.table
    rows = _rows(source, evidence)
    plays = np.zeros(len(table.artist_name_offsets) - 1, dtype=np.uint16)
    np.add.at(plays, table.artist.take(rows), 1)
    out = _places(source, set(served).difference(evidence.tracks.tolist()))
    heard = Heard(np.array([*model.places.take(rows).tolist(), *out], dtype=np.int64), plays)
    return shortlist(model, belief, source.session_artists, heard, count)


def _places(source: Source, tracks: Iterable[int]) -> list[int]:
    """Return the places of those tracks that the table knows."""
    places = _model(source).places
    rows = map(source.table.index, tracks)
    return [int(places[row]) for row in rows if row is not None]


def _rows(source: Source, evidence: Evidence) -> Array:
    """Return the rows of the tracks heard that the table knows."""
    tracks = source.table.tracks
    rows = tracks.searchsorted(evidence.tracks)
    return np.asarray(rows[tracks.take(rows, mode="clip") == evidence.tracks])


def _model(source: Source) -> SessionModel:
    model = source.session_model
    if model is None:
        raise LookupError("the table has no session model")
    return model
