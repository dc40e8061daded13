"""Measurements of chunks of galaxies on disk: an evaluation that was interrupted goes on from there."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.writers.atomic import replacing

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
