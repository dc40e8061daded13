"""Random numbers that depend on the seed and on the galaxy alone."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np


class Draws:
    """Random numbers for a batch of galaxies, one stream per galaxy and purpose.

    A stream is a Philox generator keyed by (seed, index) whose counter starts at the purpose, so that
    neither batch size, nor order, nor the number of workers, nor a new purpose changes what another draws.

    Args:
        seed: of the simulation, zero or more.
        indices: (b,) what identifies each galaxy or observation.
    """

    def __init__(self, seed: int, indices: Sequence[int] | np.ndarray):
        if seed < 0:
            raise ValueError(f"seed: expected a whole number of zero or more, got {seed}")
        self.seed = int(seed)
        self.indices = np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        return self.indices.size

    def normal(self, purpose: str, *shape: int) -> np.ndarray:
        """Standard normal numbers, (b,) followed by ``shape``."""
        return self._fill(purpose, shape, lambda stream: stream.standard_normal(shape))

    def uniform(self, purpose: str, *shape: int) -> np.ndarray:
        """Numbers in [0, 1), (b,) followed by ``shape``."""
        return self._fill(purpose, shape, lambda stream: stream.random(shape))

    def _fill(self, purpose: str, shape: tuple[int, ...], draw) -> np.ndarray:
        counter = np.array([0, 0, zlib.crc32(purpose.encode()), 0], dtype=np.uint64)
        out = np.empty((len(self), *shape))
        for row, index in enumerate(self.indices):
            key = np.array([self.seed, index], dtype=np.uint64)
            out[row] = draw(np.random.Generator(np.random.Philox(key=key, counter=counter)))
        return out
