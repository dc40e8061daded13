"""A figure with its number of measurements and its bootstrap interval over galaxies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

RESAMPLES = 100
_PERCENT = (16.0, 84.0)


@dataclass(frozen=True)
class Estimate:
    """A statistic.

    Attributes:
        value: NaN where nothing was measured.
        low, high: 16th and 84th percentile of the statistic over resampled galaxies; NaN for fewer than two
            galaxies.
        n: measurements.
        galaxies: that they come from.
        p16, p84: percentiles of the measurements themselves, where the statistic is their median.
    """

    value: float
    low: float
    high: float
    n: int
    galaxies: int
    p16: float | None = None
    p84: float | None = None

    def as_json(self) -> dict:
        """Plain numbers; None for NaN, which JSON has not."""
        given = {name: getattr(self, name) for name in self.__dataclass_fields__}
        kept = {name: value for name, value in given.items() if value is not None}
        return {
            name: None if isinstance(value, float) and not np.isfinite(value) else value
            for name, value in kept.items()
        }


def bootstrap(
    statistic: Callable[..., float],
    galaxy: np.ndarray,
    *values: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A statistic of measurements and its interval when galaxies, not measurements, are drawn anew.

    Lines and pixels of one galaxy share its noise and its redshift: drawn one by one they would make the
    interval too small.

    Args:
        statistic: of ``*values`` to a number; NaN allowed.
        galaxy: (n,) galaxy of each measurement.
        values: (n, ...) each.
        resamples: how often.
        seed: of the draws.
    """
    galaxy = np.asarray(galaxy)
    values = tuple(np.asarray(value) for value in values)
    order = np.argsort(galaxy, kind="stable")
    _, start, count = np.unique(galaxy[order], return_index=True, return_counts=True)
    if galaxy.size == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, 0)
    value = float(statistic(*values))
    low = high = float("nan")
    if start.size > 1:
        rng = np.random.default_rng(seed)
        drawn = []
        for _ in range(resamples):
            pick = rng.integers(start.size, size=start.size)
            index = order[_ranges(start[pick], count[pick])]
            drawn.append(statistic(*(v[index] for v in values)))
        drawn = np.asarray(drawn, dtype=float)
        if np.isfinite(drawn).any():
            low, high = (float(p) for p in np.nanpercentile(drawn, _PERCENT))
    return Estimate(value, low, high, int(galaxy.size), int(start.size))


def median_estimate(galaxy: np.ndarray, values: np.ndarray, **options) -> Estimate:
    """Median with its bootstrap interval, and the measurements' own 16th and 84th percentiles."""
    values = np.asarray(values, dtype=float)
    finite = np.isfinite(values)
    found = bootstrap(np.median, np.asarray(galaxy)[finite], values[finite], **options)
    if found.n == 0:
        return found
    p16, p84 = (float(p) for p in np.percentile(values[finite], _PERCENT))
    return Estimate(found.value, found.low, found.high, found.n, found.galaxies, p16, p84)


def _ranges(start: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Concatenated ``arange(start, start + count)``."""
    ends = np.cumsum(count)
    return np.arange(ends[-1]) - np.repeat(ends - count, count) + np.repeat(start, count)


def estimates_of_sums(
    galaxy: np.ndarray,
    rows: np.ndarray,
    statistics: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """As `kspecsr.measures.estimate.bootstrap` for statistics that depend on sums over rows alone.

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


def rate_estimate(
    galaxy: np.ndarray, hit: np.ndarray, among: np.ndarray, resamples: int = RESAMPLES
) -> Estimate | None:
    """Share of the measurements that are hits; None without measurements.

    Args:
        galaxy: (B,) unit of resampling.
        hit: (B,) or (B, K) bool.
        among: of the same shape, bool: what counts as a measurement.
        resamples: how often galaxies are drawn anew.
    """
    among = np.asarray(among, bool).reshape(len(galaxy), -1)
    hit = np.asarray(hit, bool).reshape(among.shape) & among
    rows = np.stack([hit.sum(axis=1), among.sum(axis=1)], axis=1)
    found = estimates_of_sums(
        galaxy, rows, {"rate": lambda sums: sums[..., 0] / np.maximum(sums[..., 1], 1)}, resamples
    )
    return found.get("rate")


_SIGMA_PER_MAD = 1.4826  # of a normal distribution


def robust_scatter(values: np.ndarray) -> float:
    """Median absolute deviation from the median, as one sigma of a normal distribution; NaN without values.

    Args:
        values: (n,) finite.
    """
    if np.size(values) == 0:
        return float("nan")
    return float(_SIGMA_PER_MAD * np.median(np.abs(values - np.median(values))))


def robust_rms(values: np.ndarray) -> float:
    """Median absolute value, as the root mean square of a normal distribution about zero; NaN without values.

    Args:
        values: (n,) finite.
    """
    if np.size(values) == 0:
        return float("nan")
    return float(_SIGMA_PER_MAD * np.median(np.abs(values)))
