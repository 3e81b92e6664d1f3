"""World files: those of others load, broken ones say where they are broken."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from precompute.simulation.generate import generate
from precompute.simulation.world import World, WorldError


def write(
    directory: Path,
    tracks: list[dict[str, Any]],
    users: list[dict[str, Any]],
    embeddings: np.ndarray[Any, Any] | None = None,
) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "tracks.json").write_text("\n".join(map(json.dumps, tracks)))
    (directory / "users.json").write_text("\n".join(map(json.dumps, users)))
    if embeddings is None:
        embeddings = np.arange(2 * len(tracks), dtype=np.float32).reshape(-1, 2)
    np.save(directory / "embeddings.npy", embeddings)
    return directory


def song(track: object, artist: str = "A") -> dict[str, Any]:
    return {"track": track, "artist": artist, "title": f"song {track}"}


def test_missing_fields_take_the_defaults(tmp_path: Path) -> None:
    users = [
        {"user": 7, "interests": [0, 1, 2]},
        {
            "user": 9,
            "interests": [2],
            "consume_bias": 1.5,
            "consume_sharpness": 2,
            "interest_neighbours": 3,
            "session_budget": 4,
            "artist_discount_gamma": 0.5,
            "openness": 1,
        },
    ]
    world = World.load(write(tmp_path, [song(0), song(1, "B"), song(2)], users))
    people = world.listeners
    assert people.users.tolist() == [7, 9]
    assert people.interests.tolist() == [[0, 1, 2], [2, -1, -1]]
    assert people.bias.tolist() == [5.0, 1.5]
    assert people.sharpness.tolist() == [1.0, 2.0]
    assert people.neighbours.tolist() == [10, 3]
    assert people.budget.tolist() == [5, 4]
    assert people.gamma.tolist() == [0.8, 0.5]
    catalogue = world.catalogue
    assert [catalogue.artist_names[a] for a in catalogue.artist] == ["A", "B", "A"]
    assert catalogue.titles == ("song 0", "song 1", "song 2")


def test_row_of_embeddings_is_the_track_id_in_whatever_order_the_lines_are(tmp_path: Path) -> None:
    directory = write(tmp_path, [song(2), song(0), song(1)], [{"user": 1, "interests": [2]}])
    world = World.load(directory)
    assert world.catalogue.tracks.tolist() == [0, 1, 2]
    assert world.catalogue.titles == ("song 0", "song 1", "song 2")
    assert world.embeddings.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_row_of_embeddings_is_the_line_where_ids_are_not_rows(tmp_path: Path) -> None:
    directory = write(tmp_path, [song(900), song(5), song(70)], [{"user": 1, "interests": [70]}])
    world = World.load(directory)
    assert world.catalogue.tracks.tolist() == [5, 70, 900]
    assert world.embeddings.tolist() == [[2, 3], [4, 5], [0, 1]]
    assert world.listeners.interests.tolist() == [[1]]
    assert world.catalogue.index(np.array([900, 6, 5])).tolist() == [2, -1, 0]


def test_saved_worlds_load_as_they_were(tmp_path: Path) -> None:
    made = generate(300, 40, family="smooth", seed=2)
    made.save(tmp_path / "world")
    read = World.load(tmp_path / "world")
    np.testing.assert_array_equal(read.embeddings, made.embeddings)
    names = [made.catalogue.artist_names[a] for a in made.catalogue.artist]
    assert [read.catalogue.artist_names[a] for a in read.catalogue.artist] == names
    for column in ("users", "interests", "bias", "sharpness", "neighbours", "budget", "gamma"):
        np.testing.assert_array_equal(
            getattr(read.listeners, column), getattr(made.listeners, column)
        )


GOOD = {"user": 1, "interests": [0]}


@pytest.mark.parametrize(
    ("tracks", "users", "reason"),
    [
        ([song(0), song(0)], [GOOD], "a track is there twice"),
        ([song(-1)], [GOOD], r"tracks.json, line 1: track is not an id"),
        ([song(True)], [GOOD], "track is not an id"),
        ([song(0)], [GOOD, GOOD], "a listener is there twice"),
        ([song(0)], [GOOD, {"user": 2, "interests": []}], "line 2: interests are not a list"),
        ([song(0)], [{"user": 1, "interests": [3]}], "listener 1 has an interest"),
        ([song(0)], [GOOD | {"session_budget": 0}], "session_budget is not in"),
        ([song(0)], [GOOD | {"consume_bias": "x"}], "consume_bias is not a number"),
        ([], [GOOD], "it is empty"),
    ],
)
def test_broken_lines_are_told(
    tmp_path: Path, tracks: list[dict[str, Any]], users: list[dict[str, Any]], reason: str
) -> None:
    with pytest.raises(WorldError, match=reason):
        World.load(write(tmp_path, tracks, users))


def test_broken_embeddings_are_told(tmp_path: Path) -> None:
    tracks, users = [song(0), song(8)], [GOOD]
    with pytest.raises(WorldError, match="3 rows for 2 tracks"):
        World.load(write(tmp_path, tracks, users, np.zeros((3, 2), dtype=np.float32)))
    with pytest.raises(WorldError, match="not finite"):
        World.load(write(tmp_path, tracks, users, np.full((2, 2), np.nan, dtype=np.float32)))
    with pytest.raises(WorldError, match="not floats"):
        World.load(write(tmp_path, tracks, users, np.zeros((2, 2), dtype=np.int32)))
    (tmp_path / "embeddings.npy").unlink()
    with pytest.raises(WorldError, match=r"embeddings\.npy"):
        World.load(tmp_path)
