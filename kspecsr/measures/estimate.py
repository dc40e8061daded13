"""Figures of merit of stored measurements, of all galaxies and of parts, with bootstrap intervals."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from astropy.stats import mad_std

RESAMPLES = 100
_PERCENT = (16.0, 84.0)


@dataclass(frozen=True)
class Estimate:
    """Value of a statistic with its interval.

    Attributes:
        value: NaN where nothing was measured.
        low, high: 16th and 84th percentile of the statistic over resampled galaxies; NaN for fewer than two
            galaxies.
        n: number of measurements.
        galaxies: number of galaxies that they come from.
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
        """Plain numbers; None for NaN, which JSON does not have."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            name: None if isinstance(value, float) and not np.isfinite(value) else value
            for name, value in values.items()
            if value is not None
        }


# ---- bootstrap over galaxies


def bootstrap(
    statistic: Callable[..., float],
    galaxy: np.ndarray,
    *values: np.ndarray,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Statistic of measurements, and its interval when galaxies, not measurements, are drawn anew.

    Lines and pixels of one galaxy share its noise and its redshift: drawn one by one they would make the
    interval too small.

    Args:
        statistic: function of ``*values`` to a number; NaN allowed.
        galaxy: (n,) galaxy of each measurement.
        values: (n, ...) measurements.
        resamples: number of draws, the same ones for every statistic.
    """
    galaxy = np.asarray(galaxy)
    values = tuple(np.asarray(value) for value in values)
    # Galaxies in a row, so that one that is drawn brings all its measurements along as a slice.
    order = np.argsort(galaxy, kind="stable")
    _, start, count = np.unique(galaxy[order], return_index=True, return_counts=True)
    if galaxy.size == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, 0)
    drawn = []
    if start.size > 1:
        rng = np.random.default_rng(0)
        for _ in range(resamples):
            pick = rng.integers(start.size, size=start.size)
            index = order[_ranges(start[pick], count[pick])]
            drawn.append(statistic(*(v[index] for v in values)))
    spread = (None, None)
    if statistic is np.median:
        spread = tuple(float(p) for p in np.percentile(values[0], _PERCENT))
    interval = _interval(np.asarray(drawn, dtype=float))
    return Estimate(float(statistic(*values)), *interval, int(galaxy.size), int(start.size), *spread)


def _ranges(start: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Concatenated ``arange(start, start + count)``."""
    ends = np.cumsum(count)
    return np.arange(ends[-1]) - np.repeat(ends - count, count) + np.repeat(start, count)


def _interval(drawn: np.ndarray) -> tuple[float, float]:
    if not np.isfinite(drawn).any():
        return float("nan"), float("nan")
    low, high = np.nanpercentile(drawn, _PERCENT)
    return float(low), float(high)


def estimates_of_sums(
    galaxy: np.ndarray,
    rows: np.ndarray,
    statistics: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    resamples: int = RESAMPLES,
) -> dict[str, Estimate]:
    """Like `bootstrap`, and much faster, for statistics that depend on sums over rows alone.

    Args:
        galaxy: (n,) galaxy of each row, the unit of resampling.
        rows: (n, S); the last column is the number of measurements, and rows without any take no part.
        statistics: name to a function of sums (..., S) to (...).
        resamples: number of draws, the same ones for every statistic.

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
    drawn = np.empty((0, rows.shape[1]))
    if number > 1:
        shares = np.full(number, 1.0 / number)
        # How often each galaxy is drawn says all: the sums of a resample are one matrix product.
        drawn = np.random.default_rng(0).multinomial(number, shares, size=resamples) @ sums
    return {
        name: Estimate(float(statistic(total)), *_interval(statistic(drawn)), int(total[-1]), number)
        for name, statistic in statistics.items()
    }


# ---- statistics and their summary


@dataclass(frozen=True)
class Statistic:
    """Figure of merit of measurements in cells: lines, line ratios or bands of each galaxy, or the galaxy.

    Attributes:
        name: name of the figure; the label of a part is appended.
        of: function of the measurements, (n,) for each of ``values``, to a number.
        values: (B, C) measurements of B galaxies in C cells.
        use: (B, C) bool: what counts as a measurement.
    """

    name: str
    of: Callable[..., float]
    values: tuple[np.ndarray, ...]
    use: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        """The name alone."""
        return (self.name,)

    def estimates(self, chosen: np.ndarray, galaxy: np.ndarray, resamples: int) -> dict[str, Estimate]:
        """Estimate of the chosen cells, a (B, C) bool, by name."""
        row, cell = np.nonzero(self.use & chosen)
        values = (array[row, cell] for array in self.values)
        return {self.name: bootstrap(self.of, galaxy[row], *values, resamples=resamples)}


@dataclass(frozen=True)
class SumStatistics:
    """Figures of merit that depend on sums over cells alone.

    Attributes:
        functions: name to a function of sums (..., S) to (...).
        sums: (B, C, S) what is summed; the last column is the number of measurements.
    """

    functions: Mapping[str, Callable[[np.ndarray], np.ndarray]]
    sums: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all figures."""
        return tuple(self.functions)

    def estimates(self, chosen: np.ndarray, galaxy: np.ndarray, resamples: int) -> dict[str, Estimate]:
        """Estimates of the chosen cells, a (B, C) bool, by name."""
        used = np.broadcast_to(chosen, self.sums.shape[:2])
        rows = np.einsum("bcs,bc->bs", self.sums, used)
        return estimates_of_sums(galaxy, rows, self.functions, resamples)


def statistic(name: str, of: Callable[..., float], *values: np.ndarray, use=True) -> Statistic:
    """Statistic of the finite values; of (B,) arrays or (B, C) arrays.

    Args:
        name: name of the figure.
        of: function of the values to a number.
        values: measurements.
        use: bool of the same shape: which count.
    """
    cells = tuple(_cells(np.asarray(value, np.float64)) for value in values)
    finite = np.logical_and.reduce([np.isfinite(value) for value in cells])
    return Statistic(name, of, cells, finite & (_cells(use) if np.ndim(use) else use))


def median(name: str, values: np.ndarray, use=True) -> Statistic:
    """Median of the finite values; see `statistic`."""
    return statistic(name, np.median, values, use=use)


def share(name: str, hit: np.ndarray, among: np.ndarray) -> SumStatistics:
    """Share of hits, or mean of numbers.

    Args:
        name: name of the figure.
        hit: (B,) or (B, C) bool, or numbers to be averaged.
        among: bool of the same shape: what counts as a measurement.
    """
    among = _cells(np.asarray(among, bool))
    sums = np.stack([np.where(among, _cells(hit), 0.0), among], axis=-1)
    return SumStatistics({name: quotient(0)}, sums)


def quotient(above: int, below: int = -1) -> Callable[[np.ndarray], np.ndarray]:
    """Function of sums (..., S) to the quotient of two of them; NaN where the lower one is zero."""
    return lambda sums: sums[..., above] / np.where(sums[..., below] > 0, sums[..., below], np.nan)


def _cells(array: np.ndarray) -> np.ndarray:
    """(B,) as (B, 1)."""
    return np.reshape(array, (len(array), -1))


WHOLE = ("", np.ones((1, 1), bool))  # the part of everything, whose label is empty

# statistics, and the parts they are made of: labels that are appended to names with (B, C) or (B, 1) bool
Block = tuple[Iterable[Statistic | SumStatistics], Iterable[tuple[str, np.ndarray]]]


def summarise(
    blocks: Iterable[Block],
    galaxy: np.ndarray,
    names: Collection[str] | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Estimate]:
    """Every statistic of every part; those that were measured.

    Args:
        blocks: statistics and the parts that they are made of.
        galaxy: (B,) unit of resampling.
        names: figures of parts that are wanted beside those of `WHOLE`; None for all of them.
        resamples: number of draws of every bootstrap.
    """
    galaxy = np.asarray(galaxy)
    found: dict[str, Estimate] = {}
    for statistics, parts in blocks:
        statistics = tuple(statistics)
        for label, chosen in parts:
            for one in statistics:
                wanted = {name for name in one.names if not label or names is None or name + label in names}
                if wanted:
                    estimates = one.estimates(chosen, galaxy, resamples)
                    found |= {name + label: estimates[name] for name in wanted & estimates.keys()}
    return {name: estimate for name, estimate in found.items() if estimate.n}


# ---- robust statistics


def robust_scatter(values: np.ndarray) -> float:
    """Median absolute deviation from the median, as one sigma of a normal distribution; NaN without values.

    Args:
        values: (n,) finite.
    """
    return float(mad_std(values)) if np.size(values) else float("nan")


def robust_rms(values: np.ndarray) -> float:
    """Median absolute value, as the root mean square of a normal distribution about zero; NaN without values.

    Args:
        values: (n,) finite.
    """
    # the values and their mirror image have the median zero
    return robust_scatter(np.concatenate([values, -np.asarray(values)]))


def median_of_rows(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Median of the chosen finite values over the last axis; NaN without any.

    Args:
        values: (..., n).
        chosen: (..., n) bool.
    """
    masked = np.ma.array(values, mask=~(chosen & np.isfinite(values)), dtype=np.float64)
    return np.ma.filled(np.ma.median(masked, axis=-1), np.nan)
