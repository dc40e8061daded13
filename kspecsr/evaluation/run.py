"""An evaluation from galaxies to measurements: streaming, resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np

from kspecsr.evaluation.held_out import HeldOut
from kspecsr.evaluation.sources import HeldOutSource
from kspecsr.evaluation.store import COLUMNS, Chunk, ChunkStore, Measured, joined

Measure = Callable[[HeldOut], Measured]


def measure_galaxies(
    source: HeldOutSource,
    n: int,
    measure: Measure,
    store: ChunkStore,
    advance: Callable[[int], None] = lambda galaxies: None,
) -> Chunk:
    """Measures the first ``n`` held-out galaxies, or all if there are fewer.

    One chunk is in memory at a time; those that are stored are not made again.

    Args:
        source: of the galaxies.
        n: how many.
        measure: galaxies to the measurements of all methods.
        store: of the measurements.
        advance: called with the number of galaxies that have been added.

    Raises:
        ValueError: where the source holds no galaxy.
    """
    chunks: list[Chunk] = []
    total = 0
    for number in count():
        chunk = store.read(number)
        if chunk is None:
            held_out = source.chunk(number)
            if held_out is None:
                break
            if len(held_out) == 0:
                continue
            chunk = Chunk(_columns(held_out), measure(held_out))
            store.write(number, chunk)
        chunk = chunk.first(n - total)
        chunks.append(chunk)
        total += len(chunk)
        advance(len(chunk))
        if total == n:
            break
    if not chunks:
        raise ValueError("no held-out galaxy: the split is empty")
    return joined(chunks)


def _columns(held_out: HeldOut) -> dict[str, np.ndarray]:
    columns = {name: getattr(held_out, name) for name in COLUMNS}
    return {name: array for name, array in columns.items() if array is not None}


def galaxies_at(source: HeldOutSource, positions: list[int]) -> Iterator[HeldOut]:
    """The galaxies at these positions in the order of the source, one at a time."""
    wanted = sorted(positions)
    start = 0
    for number in count():
        if not wanted:
            return
        held_out = source.chunk(number)
        if held_out is None:
            return
        while wanted and wanted[0] < start + len(held_out):
            row = wanted.pop(0) - start
            yield held_out.rows(slice(row, row + 1))
        start += len(held_out)
