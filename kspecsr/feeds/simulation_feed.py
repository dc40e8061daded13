"""Endless batches of fresh simulated galaxies, from background processes."""

import itertools
from collections.abc import Generator
from dataclasses import asdict
from functools import partial

import numpy as np

from data_pipeline.configuration import to_dict
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.workers import worker_pool
from kspecsr.configuration import FeedConfig
from kspecsr.feeds.example import Batch, Feed, Teacher
from kspecsr.feeds.simulated import check_training_seed, simulated_examples, simulation_config

LOOK_AHEAD = 8  # most batches that wait


class SimulationFeed(Feed):
    """Fresh galaxies; step k gets those from k B to (k + 1) B.

    A batch depends on seed, feed, grid, batch size and its step alone: neither on the number of workers
    nor on the step at which the feed starts.

    Args:
        feed: population and nuisances of the simulation.
        grid: unified grid of the targets.
        batch_size: B.
        seed: 0 to 2**62 - 1.
        first_step: step of the first batch.
        workers: background processes; 0 simulates in this one, while the caller waits.
        teacher: step to the probability that a galaxy's true redshift is given; None gives none.
    """

    def __init__(
        self,
        feed: FeedConfig,
        grid: UnifiedGrid,
        batch_size: int,
        seed: int,
        first_step: int = 0,
        workers: int = 1,
        teacher: Teacher | None = None,
    ):
        if batch_size < 1 or first_step < 0 or workers < 0:
            raise ValueError(
                "simulation feed: expected batch_size >= 1, first_step >= 0 and workers >= 0, got "
                f"batch_size={batch_size}, first_step={first_step}, workers={workers}"
            )
        self.feed, self.grid, self.batch_size = feed, grid, batch_size
        super().__init__(self._simulated(first_step, workers), check_training_seed(seed), first_step, teacher)

    @property
    def description(self) -> dict:
        """Description of the examples, plain JSON values."""
        return {
            "data": "simulation",
            "seed": self.seed,
            "feed": to_dict(self.feed),
            "grid": asdict(self.grid),
            "simulation": simulation_config(self.feed).as_dict(),
        }

    def _simulated(self, first_step: int, workers: int) -> Generator[Batch, None, None]:
        # begins at the first batch, when all attributes are there
        simulate = partial(
            compact_examples, batch_size=self.batch_size, seed=self.seed, feed=self.feed, grid=self.grid
        )
        with worker_pool(workers, background=workers > 0, ahead=LOOK_AHEAD) as ordered_map:
            yield from map(expand, ordered_map(simulate, itertools.count(first_step)))


def compact_examples(step: int, batch_size: int, seed: int, feed: FeedConfig, grid: UnifiedGrid) -> dict:
    """The batch of a step; arrays of zeros as shape and type alone, which are sent faster."""
    indices = np.arange(step * batch_size, (step + 1) * batch_size)
    batch = simulated_examples(indices, seed, feed, grid)
    return {name: array if array.any() else (array.shape, array.dtype) for name, array in batch.items()}


def expand(compact: dict) -> Batch:
    """The batch that `compact_examples` has made compact."""
    return {name: np.zeros(*item) if isinstance(item, tuple) else item for name, item in compact.items()}
