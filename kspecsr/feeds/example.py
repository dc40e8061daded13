"""Batches of training examples: names, shapes and types of the arrays, and the feed that yields them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping

import numpy as np

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.pixel_grid import UnifiedGrid

INPUTS = ("prism_flux", "prism_error", "prism_mask", "redshift")
TARGETS = (
    "target_flux",
    "target_error",
    "target_mask",
    "target_continuum",
    "continuum_known",
    "line_flux",
    "line_error",
    "line_known",
    "line_detectable",
    "line_broad_flux",
    "broad_velocity",
    "true_redshift",
    "second_redshift",
    "object_class",
)

Batch = dict[str, np.ndarray]


def example_shapes(grid: UnifiedGrid, lines: str = "first") -> dict[str, tuple[int, ...]]:
    """Shape of each array of one example, without the batch axis.

    Fluxes and errors are float32 in record units: 1e-20 erg/s/cm2/A, lines 1e-20 erg/s/cm2. Masks and
    flags are bool; mask True = bad, known True = known. What is unknown is 0, masked prism pixels have flux 0
    and error 1; NaN occurs in redshifts alone, and in an unknown ``broad_velocity``, which is the one-sigma
    width of broad lines [km/s], 0 where there are none. ``object_class`` is the number of one of
    `OBJECT_CLASSES`, -1 where unknown.

    Args:
        grid: unified grid of the targets.
        lines: list of lines.
    """
    pixels = load_instrument(PRISM).wavelength.size
    shapes = {"prism": (pixels,), "target": (grid.size,), "line": (len(load_lines(lines)),)}
    return {name: shapes.get(name.split("_")[0], ()) for name in (*INPUTS, *TARGETS)}


def split_batch(batch: Mapping[str, np.ndarray]) -> tuple[Batch, Batch]:
    """The inputs and the targets of a batch."""
    return {name: batch[name] for name in INPUTS}, {name: batch[name] for name in TARGETS}


Teacher = Callable[[int], float]


def given_redshift(true_redshift: np.ndarray, teacher: Teacher | None, seed: int, step: int) -> np.ndarray:
    """(b,) redshifts as input: the true one (NaN without one) where the teacher gives it, else NaN.

    The draw depends on seed and step alone.

    Raises:
        ValueError: for a probability of the teacher outside [0, 1].
    """
    if teacher is None:
        return np.full_like(true_redshift, np.nan)
    probability = teacher(step)
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"teacher: expected a probability from 0 to 1 at step {step}, got {probability!r}")
    chance = np.random.default_rng([seed, step]).random(true_redshift.size)
    return np.where(chance < probability, true_redshift, np.float32(np.nan))


class Feed:
    """Endless batches in the order of the training steps; a context that ends whatever makes them.

    Args:
        batches: batches without redshifts as input, from the first step on.
        seed: seed of the redshifts that are given.
        first_step: step of the first batch.
        teacher: step to the probability that a galaxy's true redshift is given; None gives none.

    Attributes:
        step: step of the next batch.
        waited: seconds that callers have spent waiting for batches.
    """

    def __init__(
        self, batches: Generator[Batch, None, None], seed: int, first_step: int, teacher: Teacher | None
    ):
        self.seed, self.step, self.waited = seed, first_step, 0.0
        self._batches, self._teacher = batches, teacher

    @property
    def description(self) -> dict:
        """Description of the examples, plain JSON values."""
        raise NotImplementedError  # a feed states what it is made of; there is none without

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> Batch:
        """The next batch.

        Raises:
            WorkerError: if a worker process died.
        """
        start = time.perf_counter()
        batch = next(self._batches)
        batch["redshift"] = given_redshift(batch["true_redshift"], self._teacher, self.seed, self.step)
        self.step += 1
        self.waited += time.perf_counter() - start
        return batch

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, or close the files; there are no batches afterwards."""
        self._batches.close()
