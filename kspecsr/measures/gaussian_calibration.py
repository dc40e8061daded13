"""Closed forms of calibration: coverage, probability integral transform, CRPS; all for normal predictions.

Gneiting & Raftery 2007 (J. Am. Stat. Assoc. 102, 359), equation 21, for the CRPS.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import ndtr

LEVELS = (0.50, 0.68, 0.90, 0.95)  # nominal probabilities of central intervals
PIT_BINS = 40  # even bins of the histograms of the probability integral transform
_SQRT_PI = np.sqrt(np.pi)
_SQRT_TWO_PI = np.sqrt(2.0 * np.pi)

Statistic = Callable[[np.ndarray], np.ndarray]


def gaussian_pit(truth: np.ndarray, mean: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Probability that the prediction gave to values below the truth; uniform where it is calibrated."""
    return ndtr((truth - mean) / sigma)


def gaussian_crps(truth: np.ndarray, mean: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of normal predictions, in the unit of ``truth``; less is better."""
    z = (truth - mean) / sigma
    return sigma * (z * (2.0 * ndtr(z) - 1.0) + 2.0 * _density(z) - 1.0 / _SQRT_PI)


def expected_crps(sigma: np.ndarray) -> np.ndarray:
    """Mean `gaussian_crps` where errors are what ``sigma`` states."""
    return sigma / _SQRT_PI


def normal_distance(mean: np.ndarray, sigma: np.ndarray | float) -> np.ndarray:
    """Mean of |x| under a normal distribution, the building block of the CRPS of mixtures."""
    z = mean / sigma
    return 2.0 * sigma * _density(z) + mean * (2.0 * ndtr(z) - 1.0)


def _density(z: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * np.square(np.clip(z, -40.0, 40.0))) / _SQRT_TWO_PI


def pit_bin(pit: np.ndarray) -> np.ndarray:
    """Bin of each value, 0 to `PIT_BINS` - 1."""
    return np.minimum((pit * PIT_BINS).astype(np.int64), PIT_BINS - 1)


def inside_levels(pit: np.ndarray) -> np.ndarray:
    """(..., 4) bool: inside the central interval of each of `LEVELS`; False for NaN."""
    return np.abs(pit[..., None] - 0.5) < 0.5 * np.array(LEVELS)


def ks_distance(counts: np.ndarray) -> np.ndarray:
    """Largest difference of the distribution of PIT values from the uniform one, at the bins' edges.

    Args:
        counts: (..., `PIT_BINS`).

    Returns:
        (...), 0 to 1; NaN without counts. Up to half a bin's content less than from single values.
    """
    total = counts.sum(axis=-1, keepdims=True)
    cumulative = np.cumsum(counts, axis=-1) / np.where(total > 0, total, np.nan)
    uniform = np.arange(1, PIT_BINS + 1) / PIT_BINS
    return np.abs(cumulative - uniform).max(axis=-1)


def central_coverage(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage of central intervals of every width that the histogram resolves.

    Args:
        counts: (`PIT_BINS`,).

    Returns:
        Nominal probabilities (`PIT_BINS` / 2,) and the shares found inside; NaN without counts.
    """
    half = PIT_BINS // 2
    folded = counts[half:] + counts[:half][::-1]
    total = folded.sum()
    return np.arange(1, half + 1) / half, np.cumsum(folded) / (total if total > 0 else np.nan)


# What is summed for every calibration, in this order.
TALLY = ("crps", "expected_crps", "n")
TALLY_SIZE = PIT_BINS + len(LEVELS) + len(TALLY)


def calibration_statistics(which: str) -> dict[str, Statistic]:
    """Figures of sums in the order of `TALLY_SIZE`: PIT histogram, inside each level, `TALLY`.

    ``coverage_50`` to ``coverage_95`` are shares, ``pit_ks`` a distance, ``crps`` a mean in the unit in which
    it was summed, ``crps_over_stated`` the ratio to what the stated errors would lead to: 1 where they are
    right, more where they are too small or the mean is off, less where they are too large. Drawing galaxies
    anew widens any distance, so that the interval of a small ``pit_ks`` lies above it.

    Args:
        which: part of the names after the slash.
    """
    first = PIT_BINS + len(LEVELS)

    def ratio(above: int, below: int) -> Statistic:
        def statistic(sums: np.ndarray) -> np.ndarray:
            return sums[..., above] / np.where(sums[..., below] > 0, sums[..., below], np.nan)

        return statistic

    found: dict[str, Statistic] = {
        f"coverage_{round(100 * level)}/{which}": ratio(PIT_BINS + i, -1) for i, level in enumerate(LEVELS)
    }
    found[f"pit_ks/{which}"] = lambda sums: ks_distance(sums[..., :PIT_BINS])
    found[f"crps/{which}"] = ratio(first, -1)
    found[f"crps_over_stated/{which}"] = ratio(first, first + 1)
    return found
