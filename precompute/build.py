"""From a log and a catalogue to a table, in one call."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import orjson

from precompute import contextual, neighbours, personal, popular, sessions
from precompute.bilinear import Model
from precompute.catalogue import Catalogue
from precompute.contextual import Settings as ContextualSettings
from precompute.errors import TrainingError
from precompute.factorisation import Settings as Factorisation
from precompute.inference.parameters import Settings as InferenceSettings
from precompute.inference.train import Trained, is_warm, train
from precompute.log import Log
from precompute.neighbours import Settings as NeighboursSettings
from precompute.personal import Settings as PersonalSettings
from precompute.popular import Settings as PopularSettings
from precompute.progress import Progress
from precompute.sessions import Settings as SessionsSettings
from recsvc import artifact, packing
from recsvc.artifact import Manifest
from recsvc.table import Table

__all__ = ["Build", "Settings", "build", "export"]

_EXPORT_SECONDS = 600.0  # that an export of events may take


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a build depends on besides its input."""

    sessions: SessionsSettings = field(default_factory=SessionsSettings)
    contextual: ContextualSettings = field(default_factory=ContextualSettings)
    neighbours: NeighboursSettings = field(default_factory=NeighboursSettings)
    personal: PersonalSettings = field(default_factory=PersonalSettings)
    popular: PopularSettings = field(default_factory=PopularSettings)
    inference: InferenceSettings | None = field(default_factory=InferenceSettings)
    """Of the session model; None makes a table without one."""
    seed: int = 0
    """Of all that is random. The same log, settings and seed give the same table on the
    same kind of machine with the same number of threads."""


@dataclass(frozen=True, slots=True, eq=False)
class Build:
    """A table with what it was made from and how good it is."""

    table: Table
    contextual: Model
    personal: Model
    metrics: dict[str, float]
    """Finite numbers for the manifest; the same for the same input."""
    rows_a_second: dict[str, float]
    """Training speed of the two models, validation not counted."""
    data_until: datetime
    """Who was forgotten before is not in it any more."""


def build(
    log: Log,
    catalogue: Catalogue,
    settings: Settings | None = None,
    progress: Progress | None = None,
    live: Table | None = None,
) -> Build:
    """Train the models on a log and make the table.

    The session model starts from that of `live`, where there is one. Events of tracks that the
    catalogue lacks teach nothing and are in no list. Raises
    `TrainingError` when there is nothing to learn from.
    """
    settings, progress = settings or Settings(), progress or Progress()
    known_until = _known_until(log)
    with progress.step("sessions"):
        arranged = sessions.arrange(log, catalogue, settings.sessions)
        pairs = sessions.transitions(arranged)
        statistics = popular.count(arranged, len(catalogue))
    with progress.step(
        "contextual model", _most_epochs(settings.contextual.factorisation)
    ) as advance:
        context = contextual.fit(
            pairs, catalogue, settings.contextual, seed=settings.seed, on_epoch=_each(advance)
        )
    with progress.step("neighbours", len(catalogue)) as advance:
        near = neighbours.build(
            context.left,
            context.right,
            catalogue.artist,
            statistics,
            settings.neighbours,
            seed=settings.seed,
            on_rows=advance,
        )
    with progress.step("personal model", _most_epochs(settings.personal.factorisation)) as advance:
        taste = personal.fit(
            arranged, catalogue, settings.personal, seed=settings.seed, on_epoch=_each(advance)
        )
    with progress.step("personal lists", len(arranged.users)) as advance:
        own = personal.lists(taste, settings.personal, advance)
    inferring = _infer(arranged, catalogue, settings, progress, live)
    heard = popular.most_heard(statistics, settings.popular)
    table = Table(
        tracks=catalogue.tracks,
        artist=catalogue.artist,
        artist_name_offsets=catalogue.artists.offsets,
        artist_names=catalogue.artists.block,
        title_offsets=catalogue.titles.offsets,
        titles=catalogue.titles.block,
        neighbour_offsets=near.offsets,
        neighbours=near.indices,
        neighbour_weights=near.weights,
        top=near.top,
        top_weights=near.top_weights,
        popular=heard.indices,
        popular_weights=heard.weights,
        users=arranged.users,
        personal_offsets=own.offsets,
        personal=own.indices,
        personal_weights=own.weights,
        plays=statistics.plays,
        mean_time=statistics.mean_time,
        **(inferring.arrays if inferring else {}),
    )
    metrics = {
        "events": float(len(log)),
        "events_unknown_track": float(len(log) - int(arranged.known.sum())),
        "lines_broken": float(log.broken),
        "sessions": float(arranged.count),
        "rows_by_model": float(near.by_model),
        "rows_by_artist": float(near.by_artist),
        "rows_filled": float(near.filled),
    }
    metrics |= {f"contextual_{name}": value for name, value in context.metrics.items()}
    metrics |= {f"personal_{name}": value for name, value in taste.metrics.items()}
    if inferring and inferring.quality:
        metrics |= {f"session_{n}": value for n, value in inferring.quality.metrics().items()}
    speed = {
        name: model.rows / max(model.seconds, 1e-9)
        for name, model in (("contextual", context), ("personal", taste))
    }
    return Build(table, context, taste, metrics, speed, known_until)


def _infer(
    arranged: sessions.Sessions,
    catalogue: Catalogue,
    settings: Settings,
    progress: Progress,
    live: Table | None,
) -> Trained | None:
    """Fit the session model, if it is wanted and the log has sessions to learn from."""
    if settings.inference is None:
        return None
    passes = (
        settings.inference.passes(warm=is_warm(live, settings.inference))
        + settings.inference.finishing
    )
    with progress.step("session model", passes * arranged.count) as advance:
        try:
            return train(
                arranged,
                catalogue,
                settings.inference,
                seed=settings.seed,
                live=live,
                on_sessions=advance,
            )
        except TrainingError:
            return None  # only sessions of one track: nothing to infer, but popular tracks


def export(built: Build, directory: Path, settings: Settings) -> Manifest:
    """Write a build as an artifact and return its manifest."""
    data = packing.pack(built.table)
    # What is written is what a service will read: fail here rather than there.
    packing.unpack(data)
    plain = orjson.loads(orjson.dumps(settings))  # as it will be read back
    manifest = artifact.describe(
        data, built.table, metrics=built.metrics, settings=plain, data_until=built.data_until
    )
    artifact.write(directory, data, manifest)
    return manifest


def _known_until(log: Log) -> datetime:
    """Return until when a log tells who is to be forgotten.

    That was by its end, and not when it was written nor when this ends: whoever asks to be
    forgotten meanwhile is in the table. And an export takes a while to go through all streams.
    """
    newest = int(log.timestamp.max()) / 1000 if len(log) else 0.0
    # A clock may be ahead, and a timestamp be anything.
    known = min(newest, time.time()) - _EXPORT_SECONDS
    return datetime.fromtimestamp(max(known, 0.0), UTC)


def _most_epochs(settings: Factorisation) -> int:
    return 2 * len(settings.decays) * settings.epochs  # artists, then tracks


def _each(advance: Callable[[int], None]) -> Callable[[int], None]:
    return lambda _epoch: advance(1)
