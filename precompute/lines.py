"""The lines of a file, compressed or not, read some megabytes at a time."""

from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

__all__ = ["PARQUET", "blocks", "numbered"]

PARQUET = (".parquet", ".pq")
"""How the name of a file ends that has no lines at all."""

BLOCK_BYTES = 1 << 23


def blocks(path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> Iterator[bytes]:
    """Yield a file in blocks that end where a line ends; each ends in a newline.

    It is compressed if its name ends in .gz, .zst, .bz2 or .lz4. A byte order mark is no
    part of the first line. `on_bytes` is told how many bytes of the file have been read
    since the last call. Raises `OSError` or `ValueError` when the file cannot be read.
    """
    mark = BOM_UTF8
    # The raw file is counted, so that the progress of a compressed one is right too.
    with path.open("rb") as raw:
        stream, seen = pa.input_stream(raw, compression=_compression(path)), 0
        for text in _whole_lines(stream):
            yield text.removeprefix(mark)
            mark, position = b"", raw.tell()
            on_bytes(position - seen)
            seen = position


def numbered(
    path: Path, on_bytes: Callable[[int], None] = lambda _: None
) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file that are not blank, with their numbers; see `blocks`."""
    first = 1
    for text in blocks(path, on_bytes):
        for number, line in enumerate(text.split(b"\n"), first):
            if line.strip():
                yield number, line
        first += text.count(b"\n")


def _compression(path: Path) -> str | None:
    return {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}.get(path.suffix)


def _whole_lines(stream: pa.NativeFile) -> Iterator[bytes]:
    rest = b""
    while data := stream.read(BLOCK_BYTES):
        cut = data.rfind(b"\n") + 1
        if not cut:
            rest += data
            continue
        yield rest + data[:cut]
        rest = data[cut:]
    if rest:
        yield rest + b"\n"
