"""Endless batches of fresh simulated galaxies, made in background processes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

import numpy as np

from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.workers import worker_pool
from kspecsr.configuration import FeedConfig
from kspecsr.feeds.example import Batch, Teacher, given_redshift
from kspecsr.feeds.simulated import check_training_seed, simulated_examples, simulation_config

LOOK_AHEAD = 8  # batches that wait at most


class SimulationFeed:
    """Batches in the order of the training steps; step k gets galaxies k B to (k + 1) B.

    A batch depends on seed, feed, grid, batch size and its step alone: neither on the number of workers
    nor on the step at which the feed starts. An iterator of dicts (see `example_shapes`), and a context
    that ends the workers.

    Args:
        feed: what is simulated.
        grid: unified grid of the targets.
        batch_size: B.
        seed: 0 to 2**62 - 1.
        first_step: step of the first batch.
        workers: background processes; 0 simulates in this one, while the caller waits.
        teacher: step to the probability that a galaxy's true redshift is given; None gives none.

    Attributes:
        step: step of the next batch.
        waited: seconds that callers have spent waiting for batches.
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
        self.seed = check_training_seed(seed)
        self.step, self.waited = first_step, 0.0
        self._workers, self._teacher = workers, teacher
        self._batches = self._made(first_step)

    @property
    def description(self) -> dict:
        """What the examples are, as plain JSON values."""
        return {
            "data": "simulation",
            "seed": self.seed,
            "feed": asdict(self.feed),
            "grid": asdict(self.grid),
            "simulation": asdict(simulation_config(self.feed)),
        }

    def __iter__(self) -> SimulationFeed:
        return self

    def __next__(self) -> Batch:
        """The next batch.

        Raises:
            WorkerError: if a worker process died.
        """
        start = time.perf_counter()
        batch = expand(next(self._batches))
        batch["redshift"] = given_redshift(batch["true_redshift"], self._teacher, self.seed, self.step)
        self.step += 1
        self.waited += time.perf_counter() - start
        return batch

    def __enter__(self) -> SimulationFeed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers at once; there are no batches afterwards."""
        self._batches.close()

    def _made(self, first_step: int) -> Iterator[dict]:
        make = partial(
            compact_examples, batch_size=self.batch_size, seed=self.seed, feed=self.feed, grid=self.grid
        )
        background = self._workers > 0
        with worker_pool(self._workers, background=background, ahead=LOOK_AHEAD) as ordered_map:
            yield from ordered_map(make, itertools.count(first_step))


def compact_examples(step: int, batch_size: int, seed: int, feed: FeedConfig, grid: UnifiedGrid) -> dict:
    """The batch of a step, with the shape and type alone of arrays that are zero throughout."""
    indices = np.arange(step * batch_size, (step + 1) * batch_size)
    batch = simulated_examples(indices, seed, feed, grid)
    return {name: array if array.any() else (array.shape, array.dtype) for name, array in batch.items()}


def expand(compact: dict) -> Batch:
    """The batch of what `compact_examples` gave."""
    return {name: np.zeros(*item) if isinstance(item, tuple) else item for name, item in compact.items()}
