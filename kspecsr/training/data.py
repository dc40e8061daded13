"""Examples of a training, and the fixed galaxies that measure the goal after each epoch."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.configuration import STAGES, FeedConfig
from kspecsr.feeds.example import Batch, Feed, Teacher, split_batch
from kspecsr.feeds.records_feed import RecordsFeed, recorded_validation
from kspecsr.feeds.simulated import validation_examples
from kspecsr.feeds.simulation_feed import SimulationFeed

# The same galaxies judge every training on simulation, whatever its seed: goals can be compared.
VALIDATION_SEED = 20261124


@dataclass(frozen=True)
class TrainingData:
    """Examples for the stages of one run.

    Attributes:
        directory: record directory; None for fresh simulation.
        feed: population and nuisances of the simulation.
        grid: unified grid of the model.
        seed: seed of the run; each stage draws galaxies of its own.
        workers: number of background processes that simulate.
    """

    directory: Path | None
    feed: FeedConfig
    grid: UnifiedGrid
    seed: int = 0
    workers: int = 1

    def open(self, stage: str, batch_size: int, first_step: int = 0, teacher: Teacher | None = None) -> Feed:
        """Batches from a step on; step k is the same whatever the first step was."""
        # Stages must not see each other's galaxies: SR2 trained on those that SR1 knows by heart would trust
        # SR1 too much.
        seed = len(STAGES) * self.seed + STAGES.index(stage)
        if self.directory is not None:
            return RecordsFeed(
                self.directory,
                "train",
                batch_size,
                seed,
                first_step,
                teacher,
                self.grid,
                noise_free_targets=self.feed.noise_free_targets,
                lines=self.feed.lines,
            )
        return SimulationFeed(self.feed, self.grid, batch_size, seed, first_step, self.workers, teacher)

    def validation(self, stage: str, size: int) -> Batch:
        """The fixed galaxies. Half of them give their redshift to SR2."""
        if self.directory is not None:
            options = {"noise_free_targets": self.feed.noise_free_targets, "lines": self.feed.lines}
            batch = recorded_validation(self.directory, size, self.grid, **options)
        else:
            batch = validation_examples(size, VALIDATION_SEED, self.feed, self.grid)
        # Half of them as users who know the redshift, half as those who do not: the goal judges both.
        if stage == "sr2":
            batch["redshift"] = batch["redshift"].copy()
            batch["redshift"][::2] = batch["true_redshift"][::2]
        return batch


class TimedBatches:
    """Iterates over (x, y), and knows when each pair was handed over.

    Keras reads ahead, in a thread of its own: what a step waits is the time from its beginning until its own
    batch was handed over, nothing where that was earlier. A context that closes the feed, also while that
    thread is waiting for it.

    Args:
        feed: batches, in the order of the steps.
    """

    def __init__(self, feed: Feed):
        self._feed = feed
        self._handed: list[float] = []
        self._begun: list[float] = []
        self._reading = threading.Lock()
        self._closed = False

    def __iter__(self) -> Iterator[tuple[Batch, Batch]]:
        while True:
            # One reader at a time: while it waits for a batch the feed must not be closed under it.
            with self._reading:
                if self._closed:
                    return
                pair = split_batch(next(self._feed))
            self._handed.append(time.perf_counter())
            yield pair

    def begin_step(self) -> None:
        """To be called at the beginning of each step."""
        self._begun.append(time.perf_counter())

    def waits(self) -> list[float]:
        """Seconds that each step so far waited."""
        return [max(0.0, handed - begun) for handed, begun in zip(self._handed, self._begun, strict=False)]

    def __enter__(self) -> TimedBatches:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        with self._reading:
            self._feed.close()
