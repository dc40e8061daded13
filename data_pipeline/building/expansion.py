"""From finished chunks to shards: augmentation of the training part, round-robin writing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data_pipeline.building.chunks import ChunkStore
from data_pipeline.building.row import aligned_spectra, augmented_row
from data_pipeline.pairs.augmentation import AugmentationConfig, augment
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.records import ExampleCodec, Schema


@dataclass(frozen=True)
class Expansion:
    """Makes the serialised rows of one realisation of one chunk.

    Attributes:
        output: record directory, where the chunks lie.
        schema: of the rows.
        grid: unified grid.
        augmentation: amounts.
        seed: of the build.
    """

    output: str
    schema: Schema
    grid: UnifiedGrid
    augmentation: AugmentationConfig
    seed: int

    @property
    def _limits(self) -> tuple[float, float]:
        """What trimming leaves of the grid [um]."""
        wavelength, (low, high) = self.grid.wavelength, self.augmentation.trim
        return max(low, wavelength[0]), min(high, wavelength[-1])

    def tasks(self, split: str, n_chunks: int) -> Iterator[tuple[str, int, int]]:
        """(split, realisation, chunk): all originals first, then copy by copy, so neighbours differ."""
        copies = self.augmentation.realisations if split == "train" else 0
        for realisation in range(copies + 1):
            for chunk in range(n_chunks):
                yield split, realisation, chunk

    def rows(self, task: tuple[str, int, int]) -> list[bytes]:
        """Serialised rows of a task."""
        split, realisation, chunk = task
        codec = ExampleCodec(self.schema)
        payloads = []
        for row in ChunkStore(self.output, self.schema).rows(chunk, split):
            if realisation:
                rng = row_generator(self.seed, str(row["unique_id"]), realisation)
                copy = augment(aligned_spectra(row), self.grid, self.augmentation, rng)
                row = augmented_row(row, copy, realisation, self._limits)
            payloads.append(codec.serialise(row))
        return payloads


def row_generator(seed: int, unique_id: str, realisation: int) -> np.random.Generator:
    """Random numbers of one copy of one galaxy, the same whatever else is built and in which order."""
    digest = hashlib.sha256(unique_id.encode()).digest()
    return np.random.default_rng([seed, realisation, int.from_bytes(digest[:8], "big")])
