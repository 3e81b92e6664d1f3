"""Run the compiled code, and that for damaged evidence too, under a sanitizer.

`LD_PRELOAD` has to name the sanitizer's library. Prints how many calls were answered.
"""

import ctypes
import sys
from pathlib import Path
from random import Random

from mmh3 import mmh3_x64_128_digest

from hatch_build import compile_library
from recsvc.recommenders.compiled import declared
from recsvc.recommenders.native import Native
from recsvc.recommenders.rows import compiled_rows
from recsvc.recommenders.source import Source
from recsvc.tracks import pack_tracks
from tests.inferring import inferring_table

_SESSIONS = 12


def main(library: Path) -> None:
    """Compile for it, and call."""
    compile_library(
        Path(), library, "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover"
    )
    found = declared(ctypes.PyDLL(str(library)))
    answered = 0
    for n, d, leaf in ((5, 1, 8), (37, 3, 16), (300, 17, 4), (2500, 6, 16), (300, 48, 8)):
        table = inferring_table(n, d, leaf=leaf, artists=max(n // 7, 1))
        source = Source(table, "v1", compiled=False)
        lists = table.neighbour_offsets, table.neighbours, table.neighbour_weights
        candidates = compiled_rows(found, table.tracks, *lists)
        for row in range(n):
            assert candidates(row).tracks == source.neighbours(int(table.tracks[row])).tracks
        assert source.session_model is not None
        inference = Native.of(
            found, source.session_model, table, source.session_artists, source.version
        )
        assert inference is not None
        for seed in range(_SESSIONS):
            answered += _play(inference, n, Random(seed))
    print(answered)


def _play(inference: Native, n: int, rng: Random) -> int:
    """Play a session, whose evidence is damaged too; return how often it was answered."""
    data, out, answered = b"", list[int](), 0
    for _ in range(rng.choice((8, 40, 330))):
        track, time = rng.randrange(n + 2), round(rng.random(), 2)
        for given in (data, _damaged(data, rng)):
            count = rng.choice((1, 8, 32))
            found = inference.infer(given, track, time, pack_tracks(out), count)
            answered += found is not None
            if found is not None and given is data:
                data = found[1]
                out = [*out[-200:], *found[0].tracks[:1].tolist()]
    return answered


def _damaged(data: bytes, rng: Random) -> bytes:
    """Change some bytes, mostly in the head, under a checksum that holds."""
    changed = bytearray(data)
    for _ in range(rng.randrange(6) if data else 0):
        end = rng.choice((40, len(data)))
        changed[8 + rng.randrange(end - 8)] = rng.choice((0, 1, 255, rng.randrange(256)))
    if data:
        changed[:8] = mmh3_x64_128_digest(bytes(changed[8:]))[:8]
    return bytes(changed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
