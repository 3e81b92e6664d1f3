"""Tables on disk."""

from pathlib import Path

import pytest

from recsvc import artifact
from recsvc.artifact import Manifest
from recsvc.cache import TableCache
from recsvc.errors import ArtifactError
from recsvc.packing import pack
from tests.support import small_table

DATA = pack(small_table())


@pytest.fixture
def manifest() -> Manifest:
    return artifact.describe(DATA, small_table())


def store(cache: TableCache, manifest: Manifest, data: bytes = DATA) -> None:
    cache.lock().close()
    draft = cache.draft(manifest)
    draft.write(data)
    draft.finish()
    draft.close()


def test_what_was_written_is_mapped(tmp_path: Path, manifest: Manifest) -> None:
    cache = TableCache(tmp_path / "tables")
    assert cache.open(manifest) is None
    store(cache, manifest)
    table = cache.open(manifest)
    assert table is not None
    assert table.counts() == manifest.counts


@pytest.mark.parametrize("data", [b"", DATA[:-1], DATA[:-1] + b"x"])
def test_a_damaged_file_is_refused_until_it_is_replaced(
    tmp_path: Path, manifest: Manifest, data: bytes
) -> None:
    cache = TableCache(tmp_path)
    store(cache, manifest, data)
    for _ in range(2):
        with pytest.raises(ArtifactError, match="checksum"):
            cache.open(manifest)
    store(cache, manifest)
    assert cache.open(manifest) is not None


def test_a_file_that_was_replaced_has_another_stamp(tmp_path: Path, manifest: Manifest) -> None:
    cache = TableCache(tmp_path)
    assert cache.stamp(manifest) is None
    store(cache, manifest)
    before = cache.stamp(manifest)
    assert before is not None
    assert cache.stamp(manifest) == before
    store(cache, manifest)
    assert cache.stamp(manifest) != before


def test_what_is_not_finished_is_no_table(tmp_path: Path, manifest: Manifest) -> None:
    cache = TableCache(tmp_path)
    draft = cache.draft(manifest)
    draft.write(DATA)
    assert cache.open(manifest) is None
    draft.close()
    assert list(tmp_path.iterdir()) == []


def test_the_table_in_use_is_remembered_and_others_go(tmp_path: Path, manifest: Manifest) -> None:
    cache = TableCache(tmp_path)
    assert cache.remembered() is None
    other = artifact.describe(pack(small_table(5)), small_table(5))
    store(cache, manifest)
    store(cache, other, pack(small_table(5)))
    cache.remember(manifest, keep={other.version})
    assert cache.open(other) is not None
    cache.remember(manifest, keep=set())
    assert cache.remembered() == manifest
    assert cache.open(manifest) is not None
    assert cache.open(other) is None
