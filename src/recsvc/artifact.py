"""An artifact: the directory that `precompute` writes and `publish` reads.

    artifact/
      manifest.json        what it is: schema version, counts, metrics, checksums
      table.safetensors    the table, as `packing` writes it

The manifest travels with the table into Redis, so it is also what a service checks the
chunks against.
"""

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from recsvc import packing
from recsvc.errors import ArtifactError, TableError
from recsvc.table import Table

__all__ = [
    "CHUNK_BYTES",
    "Manifest",
    "checksum",
    "describe",
    "parse",
    "prepare",
    "read",
    "render",
    "write",
]

CHUNK_BYTES = 1 << 20
MANIFEST = "manifest.json"
TABLE = "table.safetensors"

Checksum = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _with_zone(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("it has no time zone")
    return text


Moment = Annotated[str, AfterValidator(_with_zone)]


class Manifest(BaseModel):
    """What describes a table. The version is made from the content, so the same log,
    settings and seed give the same version, on machines of one kind."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: int = Field(default=packing.SCHEMA_VERSION, ge=1)
    version: str = Field(pattern=r"^[0-9a-f]{12}$")
    """The first 12 hex digits of the table's SHA-256."""
    created_at: Moment
    """UTC, ISO 8601."""
    data_until: Moment | None = None
    """What was said before this time, of who is to be forgotten too, was known when the table was
    made. UTC, ISO 8601; where it is not told, nothing is sure to have been."""
    bytes: int = Field(ge=0, le=1 << 40)
    chunk_bytes: int = Field(ge=1 << 10, le=1 << 26)
    sha256: Checksum
    """Of the whole table file."""
    chunks: list[Checksum]
    """Of each run of `chunk_bytes`, in order."""
    counts: dict[str, int]
    metrics: dict[str, float] = {}
    settings: dict[str, Any] = {}


class _Sealed(Manifest):
    """A manifest as it is written."""

    seal: Checksum


def checksum(data: bytes | memoryview) -> str:
    """Return the SHA-256 of some bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def describe(
    data: bytes,
    table: Table,
    *,
    metrics: dict[str, float] | None = None,
    settings: dict[str, Any] | None = None,
    created_at: datetime | None = None,
    data_until: datetime | None = None,
) -> Manifest:
    """Make the manifest of a packed table."""
    view, digest = memoryview(data), checksum(data)
    return Manifest(
        version=digest[:12],
        created_at=_written(created_at or datetime.now(UTC)),
        data_until=None if data_until is None else _written(data_until),
        bytes=len(data),
        chunk_bytes=CHUNK_BYTES,
        sha256=digest,
        chunks=[checksum(view[i : i + CHUNK_BYTES]) for i in range(0, len(data), CHUNK_BYTES)],
        counts=table.counts(),
        metrics=metrics or {},
        settings=settings or {},
    )


def render(manifest: Manifest) -> bytes:
    """Write a manifest as JSON, with a seal: a checksum of all the rest."""
    fields = manifest.model_dump(mode="json", exclude_none=True)
    return json.dumps({**fields, "seal": _seal(manifest)}, indent=2).encode() + b"\n"


def prepare(directory: Path) -> None:
    """Make an artifact's directory; raises `OSError` when nothing can be written to it."""
    directory.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=directory):
        pass


def write(directory: Path, data: bytes, manifest: Manifest) -> None:
    """Write an artifact; the manifest last, so a directory that has one is whole."""
    prepare(directory)
    _replace(directory / TABLE, data)
    _replace(directory / MANIFEST, render(manifest))


def read(directory: Path) -> tuple[Manifest, bytes, Table]:
    """Read and check an artifact.

    Raises `ArtifactError` with the reason when anything about it is not as it says.
    """
    try:
        manifest = parse((directory / MANIFEST).read_bytes())
        data = (directory / TABLE).read_bytes()
    except OSError as error:
        raise ArtifactError(f"{directory} is not an artifact: {error}") from error
    if checksum(data) != manifest.sha256:
        raise ArtifactError(f"{directory / TABLE} does not match the checksum in its manifest")
    try:
        table = packing.unpack(data)
    except TableError as error:
        raise ArtifactError(f"{directory / TABLE}: {error}") from error
    if table.counts() != manifest.counts:
        raise ArtifactError(f"{directory / TABLE} does not match the counts in its manifest")
    return manifest, data, table


def parse(data: bytes) -> Manifest:
    """Read a manifest from what `render` wrote; raises `ArtifactError`."""
    try:
        sealed = _Sealed.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise ArtifactError(f"not a valid manifest: {place}: {first['msg']}") from error
    manifest = Manifest.model_construct(**{n: getattr(sealed, n) for n in Manifest.model_fields})
    if manifest.schema_version != packing.SCHEMA_VERSION:
        raise ArtifactError(
            f"schema version {manifest.schema_version}; this release reads {packing.SCHEMA_VERSION}"
        )
    expected = -(-manifest.bytes // manifest.chunk_bytes)
    if len(manifest.chunks) != expected or manifest.sha256[:12] != manifest.version:
        raise ArtifactError("not a valid manifest: its parts contradict each other")
    if sealed.seal != _seal(manifest):
        raise ArtifactError("not a valid manifest: it is not what was sealed")
    return manifest


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _seal(manifest: Manifest) -> str:
    # Without what is not told: manifests are older than some of their fields.
    return checksum(manifest.model_dump_json(exclude_none=True).encode())


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # what a full disk has left
