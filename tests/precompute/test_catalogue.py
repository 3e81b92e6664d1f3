import gzip
from pathlib import Path

import numpy as np
import pytest

from precompute import catalogue
from precompute.errors import CatalogueError
from precompute.log import Log


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_tracks_ascend_and_the_last_line_of_a_track_counts(tmp_path: Path) -> None:
    found = catalogue.read(
        write(
            tmp_path / "tracks.json",
            '{"track": 7, "artist": "A", "title": "old"}\n'
            '{"track": 3, "artist": "B", "title": "three", "year": 1999}\n\n'
            '{"track": 7, "artist": "B", "title": "seven"}\n',
        )
    )
    assert found.tracks.tolist() == [3, 7]
    assert [found.titles[i] for i in range(2)] == ["three", "seven"]
    assert found.artist.tolist() == [0, 0]
    assert found.artists[0] == "B"
    assert found.duplicates == 1


def test_artists_are_names_numbers_or_unknown_and_then_each_their_own(tmp_path: Path) -> None:
    text = '{"track":1,"artist":5}\n{"track":2,"artist":5}\n{"track":3}\n{"track":4}\n'
    found = catalogue.read(write(tmp_path / "tracks.json", text))
    assert found.artist.tolist() == [0, 0, 1, 2]
    assert [found.artists[i] for i in range(3)] == ["Artist 5", *[catalogue.UNKNOWN] * 2]
    assert found.titles[0] == ""


def test_a_negative_artist_is_none_and_never_that_of_another_track(tmp_path: Path) -> None:
    text = '{"track":0}\n{"track":1,"artist":-1}\n{"track":2,"artist":-1}\n{"track":3}\n'
    found = catalogue.read(write(tmp_path / "tracks.json", text))
    assert found.artist.tolist() == [0, 1, 2, 3]
    assert {found.artists[i] for i in range(4)} == {catalogue.UNKNOWN}


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    found = catalogue.read(write(tmp_path / "tracks.json", '\ufeff{"track":5}\n{"track":9}\n'))
    assert found.tracks.tolist() == [5, 9]


def test_index_finds_ids_and_marks_the_unlisted(tmp_path: Path) -> None:
    found = catalogue.read(write(tmp_path / "tracks.json", '{"track":5}\n{"track":9}\n'))
    assert found.index(np.array([9, 5, 6, 0, 99])).tolist() == [1, 0, -1, -1, -1]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"track": "1"}', "track is not"),
        ('{"track": -1}', "track is not"),
        ('{"track": true}', "track is not"),
        ('{"track": 1, "artist": []}', "artist is neither"),
    ],
)
def test_a_broken_line_is_an_error_that_names_it(tmp_path: Path, line: str, reason: str) -> None:
    path = write(tmp_path / "tracks.json", '{"track": 2}\n' + line + "\n")
    with pytest.raises(CatalogueError, match=rf"tracks.json:2: .*{reason}"):
        catalogue.read(path)


def test_an_empty_or_absent_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="no track"):
        catalogue.read(write(tmp_path / "empty", "\n"))
    with pytest.raises(CatalogueError, match="cannot be read"):
        catalogue.read(tmp_path / "absent")


def test_a_parquet_or_cut_off_catalogue_is_told_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "tracks.parquet").write_bytes(b"PAR1")
    with pytest.raises(CatalogueError, match="is Parquet; a catalogue is JSON lines"):
        catalogue.read(tmp_path / "tracks.parquet")
    (tmp_path / "tracks.json.gz").write_bytes(gzip.compress(b'{"track":5}')[:-4])
    with pytest.raises(CatalogueError, match=r"tracks\.json\.gz cannot be read"):
        catalogue.read(tmp_path / "tracks.json.gz")


def test_a_catalogue_may_be_compressed(tmp_path: Path) -> None:
    (tmp_path / "tracks.json.gz").write_bytes(gzip.compress(b'{"track":5}\n'))
    assert catalogue.read(tmp_path / "tracks.json.gz").tracks.tolist() == [5]


def test_a_catalogue_from_a_log_lists_what_was_heard_or_answered() -> None:
    ids, times = np.array([5, 2, 5]), np.ones(3, np.float32)
    found = catalogue.from_log(
        Log(ids, ids, ids, times, times > 2, recommendation=np.array([-1, 8, 2]))
    )
    assert found.tracks.tolist() == [2, 5, 8]
    assert len(set(found.artist.tolist())) == 3
    assert found.titles[0] == "Track 2"
