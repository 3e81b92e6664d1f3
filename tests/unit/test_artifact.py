"""An artifact on disk and its manifest."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsvc import artifact
from recsvc.errors import ArtifactError
from recsvc.packing import pack
from tests.support import small_table


@pytest.fixture
def written(tmp_path: Path) -> Path:
    data, table = pack(small_table()), small_table()
    artifact.write(tmp_path, data, artifact.describe(data, table, metrics={"mse": 0.5}))
    return tmp_path


def test_round_trip(written: Path) -> None:
    manifest, data, table = artifact.read(written)
    assert data == pack(small_table())
    assert manifest.counts == table.counts()
    assert manifest.version == manifest.sha256[:12]
    assert manifest.metrics == {"mse": 0.5}
    assert sorted(p.name for p in written.iterdir()) == ["manifest.json", "table.safetensors"]


def test_what_cannot_be_written_leaves_no_part_of_itself(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    data, table = pack(small_table()), small_table()
    with pytest.raises(OSError, match=r"manifest\.json"):
        artifact.write(tmp_path, data, artifact.describe(data, table))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json", "table.safetensors"]


def test_every_bit_of_a_manifest_counts(written: Path) -> None:
    sealed = (written / "manifest.json").read_bytes()
    manifest = artifact.parse(sealed)
    for bit in range(len(sealed) * 8):
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            read = artifact.parse(bytes(damaged))
        except ArtifactError:
            continue
        assert read == manifest  # white space became other white space


def test_the_version_comes_from_the_content() -> None:
    one, other = small_table(), small_table(11)
    version = artifact.describe(pack(one), one).version
    assert artifact.describe(pack(one), one).version == version
    assert artifact.describe(pack(other), other).version != version


def test_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not an artifact"):
        artifact.read(tmp_path)


def test_a_damaged_table(written: Path) -> None:
    path = written / "table.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match="checksum"):
        artifact.read(written)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('"schema_version": 3', '"schema_version": 4', "schema version 4"),
        ('"tracks": 12', '"tracks": 13', "sealed"),
        ('"mse": 0.5', '"mse": 0.4', "sealed"),
        ('"bytes": ', '"bytes": 9999999', "contradict"),
        ('"sha256"', '"sha512"', "not a valid manifest"),
        ('"created_at": "20', '"created_at": "in 20', "created_at"),
        ('+00:00"', '"', "no time zone"),
        ("{", "", "not a valid manifest"),
    ],
)
def test_a_damaged_manifest(written: Path, before: str, after: str, reason: str) -> None:
    path = written / "manifest.json"
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(ArtifactError, match=reason):
        artifact.read(written)


def test_it_tells_until_when_it_knows_who_is_to_be_forgotten(tmp_path: Path) -> None:
    table = small_table(5)
    data, until = pack(table), datetime(2026, 11, 24, 7, tzinfo=UTC)
    artifact.write(tmp_path, data, artifact.describe(data, table, data_until=until))
    assert artifact.read(tmp_path)[0].data_until == "2026-11-24T07:00:00+00:00"


def test_an_older_manifest_which_does_not_tell_is_still_one(tmp_path: Path) -> None:
    table = small_table(5)
    data = pack(table)
    artifact.write(tmp_path, data, artifact.describe(data, table))
    assert b"data_until" not in (tmp_path / "manifest.json").read_bytes()
    assert artifact.read(tmp_path)[0].data_until is None
