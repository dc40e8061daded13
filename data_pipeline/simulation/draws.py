"""Random numbers that depend on the seed and on the galaxy alone."""

import zlib
from collections.abc import Sequence

import numpy as np

_MOST_SEED = 2**63 - 1


def check_seed(seed: int) -> int:
    """The seed itself.

    Raises:
        ValueError: below zero or beyond 63 bits.
    """
    if not 0 <= seed <= _MOST_SEED:
        raise ValueError(f"seed: expected a whole number from 0 to 2**63 - 1, got {seed}")
    return int(seed)


class Draws:
    """Random numbers for a batch of galaxies, one stream per galaxy and purpose.

    A stream is a Philox generator keyed by (seed, index) whose counter starts at population and purpose, so
    that neither batch size, nor order, nor the number of workers, nor a new purpose changes what another
    draws, and two populations share no galaxy and no noise at one seed. ``indices`` (b,) identify galaxies or
    observations; ``population`` is `Population.stream`.
    """

    def __init__(self, seed: int, indices: Sequence[int] | np.ndarray, population: int = 0):
        self.seed = check_seed(seed)
        self.population = population
        self.indices = np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        return self.indices.size

    def normal(self, purpose: str, *shape: int) -> np.ndarray:
        """Standard normal numbers, (b,) followed by ``shape``."""
        return self._fill("standard_normal", purpose, shape)

    def uniform(self, purpose: str, *shape: int) -> np.ndarray:
        """Numbers in [0, 1), (b,) followed by ``shape``."""
        return self._fill("random", purpose, shape)

    def rows(self, which: np.ndarray) -> "Draws":
        """The streams of some of the galaxies."""
        return Draws(self.seed, self.indices[which], self.population)

    def _fill(self, kind: str, purpose: str, shape: tuple[int, ...]) -> np.ndarray:
        # The first two words count the numbers that are drawn, so that streams of two purposes never run into
        # each other.
        counter = np.array([0, 0, zlib.crc32(purpose.encode()), self.population], dtype=np.uint64)
        out = np.empty((len(self), *shape))
        # One generator set back to the start of each stream: making a new one costs three times as much.
        bits = np.random.Philox(key=np.array([self.seed, 0], dtype=np.uint64), counter=counter)
        draw, size = getattr(np.random.Generator(bits), kind), shape or None
        # as whole numbers, since the generator takes each element by itself
        key = [self.seed, 0]
        start = bits.state | {"state": {"counter": counter.tolist(), "key": key}, "buffer": [0] * 4}
        for row, index in enumerate(self.indices.tolist()):
            key[1] = index
            bits.state = start
            out[row] = draw(size)
        return out
