from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from precompute import build, contextual, personal, popular, sessions
from precompute.bilinear import Rows, train
from precompute.build import Build, Settings
from precompute.errors import TrainingError
from precompute.factorisation import Settings as Factorisation
from precompute.inference.parameters import Settings as Inference
from precompute.progress import Progress
from recsvc import artifact, gates
from tests.precompute import listeners

SMALL = Settings(
    contextual=contextual.Settings(Factorisation(dimensions=8, learning_rate=0.02)),
    personal=personal.Settings(Factorisation(dimensions=8, learning_rate=0.02)),
    inference=Inference(dimensions=4, iterations=2, finishing=1),
)


@pytest.fixture(scope="module")
def built() -> Build:
    return build.build(listeners.make_log(), listeners.catalogue(), SMALL)


def test_both_models_beat_the_constant_and_the_track_means(built: Build) -> None:
    for model in ("contextual", "personal"):
        error = built.metrics[f"{model}_mse"]
        assert error < built.metrics[f"{model}_mse_constant"]
        assert error < built.metrics[f"{model}_mse_right_mean"]
    assert built.metrics["personal_mse"] < 0.2 * built.metrics["personal_mse_constant"]
    assert all(np.isfinite(value) for value in built.metrics.values())


def test_the_model_is_one_dot_product(built: Build) -> None:
    model = built.personal
    pairs = np.array([3, 50]), np.array([7, 100])
    by_hand = (model.left[pairs[0]] * model.right[pairs[1]]).sum(1).numpy()
    np.testing.assert_allclose(model.predict(*pairs), by_hand)


def test_a_personal_list_is_of_the_listeners_camp(built: Build) -> None:
    for user in (0, 1, 31):
        row = built.table.personal_row(user)
        assert row is not None
        assert len(row.indices) == 100
        assert np.mean(row.indices[:40] % 2 == user % 2) > 0.9
        assert row.weights.sum() == pytest.approx(1, abs=1e-5)
        assert (np.diff(row.weights) <= 0).all()


def test_plays_mean_times_and_popular_tracks_are_counted(built: Build) -> None:
    log = listeners.make_log()
    counts = Counter(log.track.tolist())
    table = built.table
    assert table.plays.tolist() == [counts[track] for track in table.tracks.tolist()]
    assert table.mean_time[5] == pytest.approx(log.time[log.track == 50].mean(), rel=1e-5)
    top = int(table.popular[0])
    assert counts[int(table.tracks[top])] == max(counts.values())
    assert table.popular_weights[0] == pytest.approx(log.time[log.track == top * 10].sum())


def test_the_table_passes_the_gates_and_reads_back(built: Build, tmp_path: Path) -> None:
    assert gates.check(built.table, metrics=built.metrics) == []
    manifest = build.export(built, tmp_path, SMALL)
    read, _, table = artifact.read(tmp_path)
    assert read == manifest
    assert table.title(3) == "Song 3"
    assert table.artist_name(3) == "Artist 3"
    assert manifest.settings["neighbours"]["temperature"] == 1.0


def test_a_table_knows_who_was_forgotten_until_shortly_before_its_log_ends(
    built: Build, tmp_path: Path
) -> None:
    ended = int(listeners.make_log().timestamp.max()) / 1000
    until = datetime.fromtimestamp(ended - 600, UTC).isoformat(timespec="seconds")
    assert build.export(built, tmp_path, SMALL).data_until == until


def test_a_log_of_the_future_is_believed_until_now_at_most() -> None:
    log = listeners.make_log()
    ahead = replace(log, timestamp=log.timestamp + 10**14)
    built = build.build(ahead, listeners.catalogue(), replace(SMALL, inference=None))
    assert built.data_until < datetime.now(UTC)


def test_the_same_input_and_seed_give_the_same_version(built: Build, tmp_path: Path) -> None:
    again = build.build(listeners.make_log(), listeners.catalogue(), SMALL)
    other = build.build(listeners.make_log(), listeners.catalogue(), replace(SMALL, seed=1))
    versions = [
        build.export(b, tmp_path / str(i), SMALL).version for i, b in enumerate((built, again))
    ]
    assert versions[0] == versions[1]
    assert again.metrics == built.metrics
    assert build.export(other, tmp_path / "other", SMALL).version != versions[0]


def test_validation_rows_teach_nothing(built: Build) -> None:
    log = listeners.make_log()
    arranged = sessions.arrange(log, listeners.catalogue())
    held = np.isin(log.timestamp, log.timestamp[-len(log) // 20 :])
    changed = replace(log, time=np.where(held, 0.0, log.time).astype(np.float32))
    model = contextual.fit(
        sessions.transitions(sessions.arrange(changed, listeners.catalogue())),
        listeners.catalogue(),
        SMALL.contextual,
        seed=0,
    )
    assert arranged.valid.sum() > held.sum()
    assert model.metrics["mse_constant"] != built.metrics["contextual_mse_constant"]
    # The effects of the training rows are the same to the last bit.
    assert np.array_equal(model.left[:, -1], built.contextual.left[:, -1])
    assert np.array_equal(model.right[:, -2], built.contextual.right[:, -2])


def test_rows_after_a_skipped_track_can_be_left_out() -> None:
    pairs = sessions.transitions(sessions.arrange(listeners.make_log(), listeners.catalogue()))
    settings = replace(SMALL.contextual, previous_time=0.7)
    model = contextual.fit(pairs, listeners.catalogue(), settings, seed=0)
    kept = pairs.previous_time >= 0.7
    assert model.metrics["rows_train"] == (kept & ~pairs.valid).sum()
    # After a track that was liked, the camps are plain to see.
    same, other = (model.predict(np.arange(120), (np.arange(120) + k) % 120).mean() for k in (2, 1))
    assert same > 0.7
    assert other < 0.3


def test_a_listener_with_one_event_gets_a_list() -> None:
    log = listeners.make_log()
    user = log.user.copy()
    user[0] = 777
    built = build.build(replace(log, user=user), listeners.catalogue(), SMALL)
    row = built.table.personal_row(777)
    assert row is not None
    assert len(row.indices) == 100


def test_tracks_without_an_event_still_have_rows() -> None:
    log = listeners.make_log()
    log = replace(log, track=np.where(log.track == 50, 60, log.track))
    table = build.build(log, listeners.catalogue(), SMALL).table
    assert table.plays[5] == 0
    assert table.mean_time[5] == pytest.approx(log.time.mean(), abs=1e-4)
    assert len(table.neighbour_row(5).indices) >= 30
    assert 5 not in table.popular


def test_a_log_whose_times_are_decided_by_the_track_builds_a_table() -> None:
    log = listeners.make_log(100)
    track = np.where(log.track == 50, 60, log.track)  # 50 is unplayed
    log = replace(log, track=track, time=(track % 20 / 10).astype(np.float32))
    built = build.build(log, listeners.catalogue(), SMALL)
    assert gates.check(built.table, metrics=built.metrics) == []


def test_a_log_without_transitions_is_refused_in_plain_words() -> None:
    log = replace(listeners.make_log(50), is_last=np.ones(400, dtype=bool))
    with pytest.raises(TrainingError, match="heard two tracks"):
        build.build(log, listeners.catalogue(), SMALL)


def test_a_handful_of_events_builds_a_table() -> None:
    log = listeners.make_log(1, 3)
    built = build.build(log, listeners.catalogue(), SMALL)
    assert "contextual_mse" not in built.metrics
    assert gates.check(built.table, metrics=built.metrics) == []


def test_steps_are_timed() -> None:
    progress = Progress()
    build.build(listeners.make_log(50), listeners.catalogue(), SMALL, progress)
    assert list(progress.seconds) == [
        "sessions",
        "contextual model",
        "neighbours",
        "personal model",
        "personal lists",
        "session model",
    ]


def noise() -> Rows:
    rng = np.random.default_rng(0)
    return Rows(
        rng.integers(0, 100, 4000),
        rng.integers(0, 100, 4000),
        rng.random(4000).astype(np.float32),
        np.arange(4000) > 3500,
    )


def test_noise_is_not_taken_for_taste() -> None:
    found = train(noise(), np.arange(100), np.arange(100), Factorisation(), seed=0)
    assert found.metrics["mse"] <= 1.01 * found.metrics["mse_constant"]
    spread = found.predict(np.arange(100), np.arange(100)).std()
    assert spread < 0.1


def test_the_reported_error_is_that_of_what_is_kept() -> None:
    rows, settings = noise(), Factorisation(decays=(0.0,), learning_rate=0.1)
    found = train(rows, np.arange(100), np.arange(100), settings, seed=0)
    assert not found.left[:, :-2].any()  # the embeddings did not help, and were thrown away
    told = found.predict(rows.left[rows.valid], rows.right[rows.valid])
    true = np.mean((told - rows.value[rows.valid]) ** 2)
    assert found.metrics["mse"] == pytest.approx(true, rel=1e-5)
    assert found.metrics["mse"] == pytest.approx(found.metrics["mse_effects"], rel=1e-5)


def test_popular_leaves_out_the_unplayed_and_keeps_weights_positive() -> None:
    statistics = popular.Statistics(
        np.array([0, 3, 3, 1]), np.zeros(4, np.float32), np.array([0.0, 1.0, 2.0, 0.0])
    )
    found = popular.most_heard(statistics, popular.Settings(size=10))
    assert found.indices.tolist() == [1, 2, 3]
    assert found.weights.tolist() == pytest.approx([1.0, 2.0, 1e-3])
    assert popular.most_heard(statistics, popular.Settings(size=1)).indices.tolist() == [1]
