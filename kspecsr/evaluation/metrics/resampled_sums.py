"""Figures made of sums over galaxies, with their bootstrap intervals: all resamples in one product."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from kspecsr.evaluation.estimate import RESAMPLES, Estimate

_PERCENT = (16.0, 84.0)


def estimates_of_sums(
    galaxy: np.ndarray,
    rows: np.ndarray,
    statistics: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """As `kspecsr.evaluation.estimate.bootstrap` for statistics that depend on sums over rows alone.

    Args:
        galaxy: (n,) galaxy of each row, the unit of resampling.
        rows: (n, S); the last column is the number of measurements, and rows without any take no part.
        statistics: name to a function of sums (..., S) to (...).
        resamples: how often galaxies are drawn anew.
        seed: of the draws.

    Returns:
        Name to estimate; empty where nothing was measured.
    """
    used = rows[:, -1] > 0
    if not used.any():
        return {}
    _, place = np.unique(np.asarray(galaxy)[used], return_inverse=True)
    sums = np.zeros((place.max() + 1, rows.shape[1]))
    np.add.at(sums, place, np.asarray(rows, np.float64)[used])
    total, number = sums.sum(axis=0), len(sums)
    drawn = None
    if number > 1:
        shares = np.full(number, 1.0 / number)
        drawn = np.random.default_rng(seed).multinomial(number, shares, size=resamples) @ sums
    found = {}
    for name, statistic in statistics.items():
        low = high = float("nan")
        if drawn is not None:
            values = statistic(drawn)
            if np.isfinite(values).any():
                low, high = (float(p) for p in np.nanpercentile(values, _PERCENT))
        found[name] = Estimate(float(statistic(total)), low, high, int(total[-1]), number)
    return found
