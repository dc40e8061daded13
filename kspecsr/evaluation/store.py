"""Measurements of chunks of galaxies on disk, from which an interrupted evaluation resumes."""

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
    "kind",
    "trouble",
    "second_redshift",
    "object_class",
    "broad_flux",
    "broad_fwhm",
)
_COLUMNS = "columns"
_SEPARATOR = "|"
_KEY = "fingerprint"

Measured = dict[str, dict[str, dict[str, np.ndarray]]]  # method, topic, name


@dataclass(frozen=True)
class Chunk:
    """Measurements of some galaxies.

    Attributes:
        columns: name to (B, ...) of the galaxies.
        measured: method to topic to name to (B, ...).
    """

    columns: dict[str, np.ndarray]
    measured: Measured

    def __len__(self) -> int:
        return len(self.columns["galaxy"])

    def first(self, n: int) -> Chunk:
        """The first ``n`` galaxies."""
        return _nested({key: array[:n] for key, array in _flat(self).items()})


class ChunkStore:
    """One file per chunk in a folder.

    Args:
        folder: created when the first chunk is written.
        fingerprint: hash of everything that shapes the measurements; files of another one are not read.
    """

    def __init__(self, folder: Path, fingerprint: str):
        self.folder, self.fingerprint = Path(folder), fingerprint

    def read(self, number: int) -> Chunk | None:
        """A chunk; None if it is not there, damaged, or of another evaluation."""
        try:
            with self._path(number).open("rb") as stream, np.load(stream) as arrays:
                # In the file, not in its name: chunks of another evaluation are replaced, not kept beside.
                if str(arrays[_KEY]) != self.fingerprint:
                    return None
                return _nested({name: arrays[name] for name in arrays.files if name != _KEY})
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
            return None

    def write(self, number: int, chunk: Chunk) -> None:
        """Writes a chunk, complete or not at all."""
        with replacing(self._path(number)) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **_flat(chunk), **{_KEY: np.array(self.fingerprint)})

    def _path(self, number: int) -> Path:
        return self.folder / f"chunk_{number:05d}.npz"


def joined(chunks: list[Chunk]) -> Chunk:
    """All galaxies in one chunk."""
    flat = [_flat(chunk) for chunk in chunks]
    return _nested({key: np.concatenate([arrays[key] for arrays in flat]) for key in flat[0]})


def _flat(chunk: Chunk) -> dict[str, np.ndarray]:
    """All arrays by one key: ``columns|redshift``, ``sr2|lines|line_flux``."""
    arrays = {f"{_COLUMNS}{_SEPARATOR}{name}": array for name, array in chunk.columns.items()}
    for method, topics in chunk.measured.items():
        for topic, values in topics.items():
            for name, array in values.items():
                arrays[_SEPARATOR.join((method, topic, name))] = array
    return arrays


def _nested(arrays: Mapping[str, np.ndarray]) -> Chunk:
    """Inverse of `_flat`."""
    chunk = Chunk({}, {})
    for key, array in arrays.items():
        first, *rest = key.split(_SEPARATOR)
        if first == _COLUMNS:
            chunk.columns[rest[0]] = array
        else:
            topic, name = rest
            chunk.measured.setdefault(first, {}).setdefault(topic, {})[name] = array
    return chunk


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
        source: source of the galaxies.
        n: number of galaxies.
        measure: function of galaxies to the measurements of all methods.
        store: store of the measurements.
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
        # Stored whole, cut when used: a later run of more galaxies finds the rest.
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
