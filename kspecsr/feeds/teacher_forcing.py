"""Who is given the true redshift."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Teacher = Callable[[int], float]


def given_redshift(true_redshift: np.ndarray, teacher: Teacher | None, seed: int, step: int) -> np.ndarray:
    """(b,) the true redshift where it is given, else NaN: to be inferred.

    Args:
        true_redshift: (b,) float32, NaN where there is none.
        teacher: step to the probability of being given it; None gives it to nobody.
        seed: the draw depends on seed and step alone.
        step: of the training.

    Raises:
        ValueError: for a probability outside [0, 1].
    """
    if teacher is None:
        return np.full_like(true_redshift, np.nan)
    probability = teacher(step)
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"teacher: expected a probability from 0 to 1 at step {step}, got {probability!r}")
    chance = np.random.default_rng([seed, step]).random(true_redshift.size)
    return np.where(chance < probability, true_redshift, np.float32(np.nan))
