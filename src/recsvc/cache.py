"""The tables that a machine has on disk, mapped into memory from there.

Mapped, so that all workers share one copy, and so that a restart, even one without
Redis, has a table at once. Everything here blocks: call it in a thread.
"""

import fcntl
import hashlib
import mmap
import os
from pathlib import Path
from secrets import token_hex
from typing import IO

from recsvc.artifact import Manifest, parse, render
from recsvc.errors import ArtifactError, TableError
from recsvc.packing import unpack
from recsvc.table import Table

__all__ = ["Draft", "TableCache"]


class TableCache:
    """A directory of tables by version, and a note of which was last in use."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self, manifest: Manifest) -> Table | None:
        """Map a table, None when it is not here.

        Raises `ArtifactError` when it is not what the manifest says. It stays: another worker
        may be about to put a good one in its place.
        """
        path = self._table(manifest.version)
        try:
            with path.open("rb") as file:
                mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except FileNotFoundError:
            return None
        except ValueError:  # an empty file cannot be mapped
            mapped = memoryview(b"")
        try:
            if hashlib.sha256(mapped).hexdigest() != manifest.sha256:
                raise TableError("its checksum is not the manifest's")
            return unpack(mapped)
        except TableError as error:
            raise ArtifactError(f"table {manifest.version}: {error}") from error

    def stamp(self, manifest: Manifest) -> tuple[int, int] | None:
        """Return what tells this file of a table from the next; None when it is not here."""
        try:
            found = self._table(manifest.version).stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def draft(self, manifest: Manifest) -> "Draft":
        """Begin to write a table."""
        return Draft(self._table(manifest.version))

    def lock(self) -> IO[bytes]:
        """Wait until no other worker is fetching, then keep them waiting until closed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        file = (self.directory / "fetch.lock").open("wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        return file

    def remember(self, manifest: Manifest, keep: set[str]) -> None:
        """Note the table in use, and remove those that are neither it nor in `keep`."""
        note = self.directory / "live.json"
        temporary = note.with_name(f".live.json.{token_hex(4)}")
        temporary.write_bytes(render(manifest))
        temporary.replace(note)
        for path in self.directory.glob("*.safetensors"):
            if path.stem not in keep | {manifest.version}:
                path.unlink(missing_ok=True)

    def remembered(self) -> Manifest | None:
        """Return the manifest of the table last in use, None when there is none."""
        try:
            return parse((self.directory / "live.json").read_bytes())
        except (OSError, ArtifactError):
            return None

    def _table(self, version: str) -> Path:
        return self.directory / f"{version}.safetensors"


class Draft:
    """A table in the writing: it takes its place once it is whole, and not before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}")
        self._file = self._temporary.open("wb")

    def write(self, chunk: bytes) -> None:
        """Add the next bytes."""
        self._file.write(chunk)

    def finish(self) -> None:
        """Put the table in its place, and on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._temporary.replace(self._path)

    def close(self) -> None:
        """Remove what is not finished."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)
