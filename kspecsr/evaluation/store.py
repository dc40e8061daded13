"""Measurements of chunks of galaxies on disk: an evaluation that was interrupted goes on from there."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from data_pipeline.writers.atomic import replacing
from kspecsr.evaluation.sources import HeldOutSource
from kspecsr.measures.held_out import HeldOut

# Small columns of the galaxies themselves that every summary needs.
COLUMNS = (
    "galaxy",
    "redshift",
    "continuum_snr",
    "line_flux",
    "line_error",
    "line_known",
    "line_snr",
    "line_detectable",
)
_COLUMNS = "columns"
_SEPARATOR = "|"
_KEY = "fingerprint"

Measured = dict[str, dict[str, dict[str, np.ndarray]]]  # method, group, name


@dataclass(frozen=True)
class Chunk:
    """Measurements of some galaxies.

    Attributes:
        columns: name to (B, ...) of the galaxies.
        measured: method to group to name to (B, ...).
    """

    columns: dict[str, np.ndarray]
    measured: Measured

    def __len__(self) -> int:
        return len(self.columns["galaxy"])

    def first(self, n: int) -> Chunk:
        """The first ``n`` galaxies."""
        return Chunk(
            {name: array[:n] for name, array in self.columns.items()},
            _each(self.measured, lambda array: array[:n]),
        )


class ChunkStore:
    """One file per chunk in a folder.

    Args:
        folder: made when the first chunk is written.
        fingerprint: of everything that shapes the measurements; files of another one are not read.
    """

    def __init__(self, folder: Path, fingerprint: str):
        self.folder, self.fingerprint = Path(folder), fingerprint

    def read(self, number: int) -> Chunk | None:
        """A chunk; None if it is not there, damaged, or of another evaluation."""
        try:
            with self._path(number).open("rb") as stream, np.load(stream) as arrays:
                if str(arrays[_KEY]) != self.fingerprint:
                    return None
                return _unpacked({name: arrays[name] for name in arrays.files if name != _KEY})
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
            return None

    def write(self, number: int, chunk: Chunk) -> None:
        """Writes a chunk, complete or not at all."""
        arrays = {f"{_COLUMNS}{_SEPARATOR}{name}": array for name, array in chunk.columns.items()}
        for method, groups in chunk.measured.items():
            for group, values in groups.items():
                for name, array in values.items():
                    arrays[_SEPARATOR.join((method, group, name))] = array
        with replacing(self._path(number)) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays, **{_KEY: np.array(self.fingerprint)})

    def _path(self, number: int) -> Path:
        return self.folder / f"chunk_{number:05d}.npz"


def joined(chunks: list[Chunk]) -> Chunk:
    """All galaxies in one."""
    columns = {name: np.concatenate([c.columns[name] for c in chunks]) for name in chunks[0].columns}
    measured: Measured = {}
    for method, groups in chunks[0].measured.items():
        for group, values in groups.items():
            for name in values:
                parts = [c.measured[method][group][name] for c in chunks]
                measured.setdefault(method, {}).setdefault(group, {})[name] = np.concatenate(parts)
    return Chunk(columns, measured)


def _each(measured: Mapping, change) -> Measured:
    return {
        method: {
            group: {name: change(array) for name, array in values.items()} for group, values in groups.items()
        }
        for method, groups in measured.items()
    }


def _unpacked(arrays: Mapping[str, np.ndarray]) -> Chunk:
    columns: dict[str, np.ndarray] = {}
    measured: Measured = {}
    for key, array in arrays.items():
        first, *rest = key.split(_SEPARATOR)
        if first == _COLUMNS:
            columns[rest[0]] = array
        else:
            group, name = rest
            measured.setdefault(first, {}).setdefault(group, {})[name] = array
    return Chunk(columns, measured)


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
