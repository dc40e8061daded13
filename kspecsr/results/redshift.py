"""P(z): its density, quantiles and modes, and the redshift with its error and confidence.

P(z) is a mixture of narrow normals in ln(1 + z), one per bin. Functions with an argument ``xp`` run with
NumPy, or with ``xp=keras.ops`` inside a graph: the exported model reports what Python reports.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_banded
from scipy.special import ndtr

if TYPE_CHECKING:
    import tensorflow_probability as tfp

# One-sigma width of each normal, in bins: neighbours add up to a smooth density (to 0.2 %). The training loss
# has the same.
BIN_WIDTH = 0.6
# Peaks belong to one mode if they lie this close in ln(1 + z), or if the valley between them is no deeper.
CLOSE = 0.004
VALLEY = 0.5  # of the lower peak
SMALLEST_PEAK = 1e-3  # of the highest; what is lower belongs to a neighbour
LOCAL = 0.01  # of a mode's peak: where its mean and width are taken
NEAR = 0.01  # ln(1 + z): a mode broader than this on either side is no redshift, whatever its mass
_SMALLEST_MASS = 1e-3  # modes below it are not listed


def redshift_cdf(probability: np.ndarray, bins: np.ndarray, redshift: np.ndarray) -> np.ndarray:
    """Probability of a redshift below the given ones, (B,).

    Args:
        probability: (B, Z) per bin, adds up to 1.
        bins: (Z,) ln(1 + z), evenly spaced.
        redshift: (B,).
    """
    place = (np.log1p(redshift)[..., None] - bins) / (BIN_WIDTH * _step(bins))
    return (probability * ndtr(place)).sum(axis=-1)


def redshift_quantile(
    probability: np.ndarray, bins: np.ndarray, share: float | Sequence[float]
) -> np.ndarray:
    """Redshifts below which these shares of P(z) lie, to a fifth of a bin.

    Args:
        probability: (Z,) per bin.
        bins: (Z,) ln(1 + z), evenly spaced.
        share: 0-1, one or several.

    Returns:
        Redshifts of the same shape.
    """
    step = _step(bins)
    edges = np.append(bins - 0.5 * step, bins[-1] + 0.5 * step)
    below = np.append(0.0, np.cumsum(_smooth(probability)))
    # np.interp needs rising places; empty stretches of P(z) have none.
    rising = np.append(True, np.diff(below) > 0)
    share = np.asarray(share, dtype=np.float64)
    # bin 0 is centred on z = 0: half of it would lie below
    return np.maximum(np.expm1(np.interp(share * below[-1], below[rising], edges[rising])), 0.0)


def _smooth(probability: np.ndarray) -> np.ndarray:
    """Probability per bin with each bin's normal spread over its neighbours."""
    return np.convolve(probability, _kernel(), mode="same")


def _kernel() -> np.ndarray:
    """Share of a bin's normal in the bin itself (the middle one) and in its neighbours."""
    reach = int(np.ceil(5 * BIN_WIDTH))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / BIN_WIDTH) ** 2)
    return kernel / kernel.sum()


def unsmoothed(density: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Probability per bin from the density per unit of z, (Z,); the reverse of `RedshiftSummary.density`."""
    kernel = _kernel()
    reach = kernel.size // 2
    # dz is (1 + z) d ln(1 + z): back to probability per bin.
    smooth = density * _step(bins) * np.exp(bins)
    diagonals = np.repeat(kernel[:, None], bins.size, axis=1)
    # rounding of a stored density leaves tiny negative values
    probability = np.maximum(solve_banded((reach, reach), diagonals, smooth), 0.0)
    return probability / probability.sum() if probability.any() else probability


def _step(bins: np.ndarray) -> float:
    return float(bins[-1] - bins[0]) / (bins.size - 1)


class RedshiftDistribution:
    """P(z) as TensorFlow Probability distributions.

    Args:
        probability: (..., Z) probability of each bin, adds up to 1.
        bins: (Z,) ln(1 + z), evenly spaced.

    Attributes:
        log_tfd: distribution of ln(1 + z), whose negative log density is the loss of the redshift network.
        tfd: distribution of z.
    """

    def __init__(self, probability: np.ndarray, bins: np.ndarray):
        self.probability = np.asarray(probability, dtype=np.float64)
        self.bins = np.asarray(bins, dtype=np.float64)
        if self.probability.shape[-1] != self.bins.size:
            raise ValueError(
                f"expected one probability per redshift bin ({self.bins.size}), got an array of shape "
                f"{self.probability.shape}"
            )
        with warnings.catch_warnings():  # of the age of what it uses
            warnings.simplefilter("ignore", DeprecationWarning)
            import tensorflow_probability as tfp  # seconds to import: only where it is asked for

            # the first use of each imports it
            tfd, expm1 = tfp.distributions, tfp.bijectors.Expm1()
            normals = tfd.Normal(self.bins, np.full(self.bins.shape, BIN_WIDTH * _step(self.bins)))
        with np.errstate(divide="ignore"):
            logits = np.log(self.probability)
        self.log_tfd = tfd.MixtureSameFamily(tfd.Categorical(logits=logits), normals)
        self.tfd = tfd.TransformedDistribution(self.log_tfd, expm1)

    def log_prob(self, redshift) -> np.ndarray:
        """Log density at a redshift, (...)."""
        return np.asarray(self.tfd.log_prob(np.asarray(redshift, dtype=np.float64)))

    def cdf(self, redshift) -> np.ndarray:
        """Probability of a smaller redshift, (...)."""
        return redshift_cdf(self.probability, self.bins, np.asarray(redshift, dtype=np.float64))

    def sample(self, n: int, seed: int | None = None) -> np.ndarray:
        """(n, ...) redshifts."""
        return np.asarray(self.tfd.sample(n, seed=seed))

    def quantile(self, q) -> np.ndarray:
        """Redshifts below which shares ``q`` of the probability lie, (..., quantiles), to a fifth of a bin.

        Args:
            q: (quantiles,) between 0 and 1.

        Raises:
            ValueError: for shares outside (0, 1).
        """
        q = np.atleast_1d(np.asarray(q, dtype=np.float64))
        if not np.all((q > 0) & (q < 1)):
            raise ValueError(f"quantiles: expected numbers between 0 and 1, got {q.tolist()}")
        return np.apply_along_axis(redshift_quantile, -1, self.probability, self.bins, q)


@dataclass(frozen=True)
class RedshiftMode:
    """One mode of P(z).

    Attributes:
        redshift: local mean.
        error: local standard deviation.
        mass: probability between the valleys on either side.
        low: lower end of that range.
        high: upper end.
    """

    redshift: float
    error: float
    mass: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class RedshiftSummary:
    """The redshift of one spectrum.

    Attributes:
        value: the redshift at which lines are placed: the caller's if one was given, else that of the
            network; NaN if there is none.
        error: one sigma; 0 where the caller gave the redshift.
        confidence: mass of the mode that ``value`` lies in (the main mode, where the network chose it) within
            0.01 (1 + z) of it, 0-1.
        given: True if the caller gave the redshift.
        bins: (Z,) ln(1 + z) of the probabilities.
        probability: (Z,) probability per bin, sums to 1; all 0 where nothing is known.
        none: probability that there is no redshift to be had, which takes its share of `confidence`; NaN of
            a model that knows galaxies alone.
    """

    value: float
    error: float
    confidence: float
    given: bool
    bins: np.ndarray
    probability: np.ndarray
    none: float = field(default=np.nan, kw_only=True)

    @property
    def grid(self) -> np.ndarray:
        """(Z,) redshifts of the bins."""
        return np.expm1(self.bins)

    @property
    def density(self) -> np.ndarray:
        """(Z,) probability per unit of z at `grid`: the density of `distribution`."""
        return _smooth(self.probability) / (_step(self.bins) * np.exp(self.bins))

    @cached_property
    def modes(self) -> tuple[RedshiftMode, ...]:
        """Modes of P(z), the heaviest first; those below 0.001 are left out."""
        return find_modes(self.probability, self.bins)

    @property
    def distribution(self) -> RedshiftDistribution:
        """P(z) with ``log_prob``, ``cdf``, ``sample`` and ``quantile``; imports TensorFlow Probability."""
        return RedshiftDistribution(self.probability, self.bins)

    @property
    def tfd(self) -> tfp.distributions.Distribution:
        """P(z) as a TensorFlow Probability distribution of z."""
        return self.distribution.tfd

    def quantile(self, share: float | Sequence[float]) -> np.ndarray:
        """Redshifts below which these shares (0-1) of P(z) lie, to a fifth of a bin; of the same shape."""
        return redshift_quantile(self.probability, self.bins, share)


def summarise_redshift(probability, bins: np.ndarray, redshift, given, xp=np):
    """Error and confidence of redshifts, from the modes of P(z) that hold them.

    Args:
        probability: (B, Z) float64 per bin; what is not finite counts as 0.
        bins: (Z,) ln(1 + z), evenly spaced.
        redshift: (B,) float64, at which lines are placed.
        given: (B,) bool, whether the caller gave it.
        xp: `numpy` or `keras.ops`.

    Returns:
        Error (B,), one sigma: 0 where the redshift was given, NaN where no mode holds it. Confidence (B,):
        mass of the mode within 0.01 (1 + z) of the redshift. P(z) (B, Z), adding up to 1, or 0 without any.
    """
    probability = xp.where(xp.isfinite(probability), probability, 0.0)
    total = xp.sum(probability, axis=1, keepdims=True)
    probability = probability / xp.where(total > 0, total, 1.0)
    place = xp.log1p(redshift)
    start, stop = _holding_mode(probability, bins, place, xp)
    column = np.arange(bins.size, dtype="int32")
    inside = (column >= start[:, None]) & (column < stop[:, None])
    near = xp.abs(bins - place[:, None]) <= NEAR
    confidence = xp.minimum(xp.sum(xp.where(inside & near, probability, 0.0), axis=1), 1.0)
    error = xp.where(start < stop, _mean_and_error(probability, bins, inside, xp)[1], np.nan)
    return xp.where(given, 0.0, error), confidence, probability


def find_modes(probability: np.ndarray, bins: np.ndarray) -> tuple[RedshiftMode, ...]:
    """Modes of one P(z), the heaviest first; those below 0.001 are left out.

    Neighbouring peaks are one mode if they are closer than 0.004 in ln(1 + z), or if the valley between
    them is higher than half of the lower one; modes end in the valleys.

    Args:
        probability: (Z,), sums to 1.
        bins: (Z,) ln(1 + z), evenly spaced.
    """
    if not probability.any():
        return ()
    starts = _mode_starts(probability[None], bins)[0]
    starts = np.append(0, starts[starts < bins.size])
    ends, mass = np.append(starts[1:], bins.size), np.add.reduceat(probability, starts)
    listed = np.flatnonzero(mass >= _SMALLEST_MASS)
    starts, ends, mass = starts[listed], ends[listed], mass[listed]
    column = np.arange(bins.size)
    inside = (column >= starts[:, None]) & (column < ends[:, None])
    redshift, error = _mean_and_error(np.broadcast_to(probability, inside.shape), bins, inside)
    half = 0.5 * _step(bins)
    low, high = np.expm1(bins[starts] - half), np.expm1(bins[ends - 1] + half)
    columns = (redshift, error, mass, low, high)
    return tuple(RedshiftMode(*(float(c[row]) for c in columns)) for row in np.argsort(-mass, kind="stable"))


def _holding_mode(probability, bins: np.ndarray, place, xp):
    """First bin of the mode around ln(1 + z), and the bin after its last, (B,) each; equal without one."""
    size, step = bins.size, _step(bins)
    starts = _mode_starts(probability, bins, xp)
    edges = np.append(bins - 0.5 * step, bins[-1] + 0.5 * step)
    bin_of = xp.searchsorted(edges, place, side="right")[:, None] - 1  # -1 or Z for NaN and beyond the bins
    # Without a branch per spectrum: the same lines run in the exported graph.
    start = xp.max(xp.where(starts <= bin_of, starts, 0), axis=1)
    stop = xp.min(xp.where(starts > bin_of, starts, size), axis=1)
    found = (bin_of[:, 0] >= 0) & (bin_of[:, 0] < size) & (xp.max(probability, axis=1) > 0)
    return start, xp.where(found, stop, start)


def _mean_and_error(probability, bins: np.ndarray, inside, xp=np):
    """Mean and one sigma of z (M,) of modes (M, Z): of the stretch around the peak, not of the far wings."""
    column = np.arange(bins.size, dtype="int32")
    within = xp.where(inside, probability, 0.0)
    top, peak = xp.max(within, axis=1, keepdims=True), xp.argmax(within, axis=1)[:, None]
    # the mode's stretch, up to where it has fallen to a hundredth of the peak
    low = within < LOCAL * top
    first = xp.max(xp.where(low & (column < peak), column + 1, 0), axis=1)
    last = xp.min(xp.where(low & (column > peak), column, bins.size), axis=1)
    around = inside & (column >= first[:, None]) & (column < last[:, None])
    weight = xp.where(around, probability, 0.0)
    total = xp.sum(weight, axis=1, keepdims=True)
    weight = weight / xp.where(total > 0, total, 1.0)
    mean = xp.sum(weight * bins, axis=1)
    # each bin stands for a normal of this width
    variance = xp.sum(weight * (bins - mean[:, None]) ** 2, axis=1) + (BIN_WIDTH * _step(bins)) ** 2
    return xp.expm1(mean), xp.exp(mean) * xp.sqrt(variance)


def _mode_starts(probability, bins: np.ndarray, xp=np):
    """First bin of each mode but the first, (B, K) for K peaks at most; Z where a peak opens no mode.

    Takes the peaks of all spectra from left to right: one that is close to the highest peak of the mode
    before it, or parted from it by a shallow valley, belongs to that mode.
    """
    size, close = bins.size, max(1, round(CLOSE / _step(bins)))
    peaks, valleys, lowest = _peaks_and_valleys(probability, xp)
    height = xp.take_along_axis(probability, xp.minimum(peaks, size - 1), axis=1)
    order = xp.cumsum(xp.ones_like(peaks), axis=1) - 1

    def follow(k, starts, peak, top, low, valley):
        """The valley before the k-th peak is the lowest bin since the highest peak of the mode."""
        lower = lowest[:, k - 1] < low
        low = xp.where(lower, lowest[:, k - 1], low)
        valley = xp.where(lower, valleys[:, k - 1], valley)
        here, height_here = peaks[:, k], height[:, k]
        there = here < size
        merged = (here - peak <= close) | (low >= VALLEY * xp.minimum(top, height_here))
        opens = there & ~merged
        starts = xp.where((order == k) & opens[:, None], valley[:, None], starts)
        moved = opens | (there & (height_here > top))
        peak, top = xp.where(moved, here, peak), xp.where(moved, height_here, top)
        return k + 1, starts, peak, top, xp.where(moved, np.inf, low), valley

    first = (1, xp.full_like(peaks, size), peaks[:, 0], height[:, 0])
    first = (*first, xp.full_like(height[:, 0], np.inf), valleys[:, 0])
    return _while_loop(lambda k, *_: k < xp.shape(peaks)[1], follow, first, xp)[1]


def _peaks_and_valleys(probability, xp):
    """Bins of the peaks (Z for none), the lowest bin from each to the next, and its value; (B, K) each."""
    rows, size = xp.shape(probability)
    beyond = xp.full_like(probability[:, :1], -np.inf)
    left = xp.concatenate([beyond, probability[:, :-1]], axis=1)
    right = xp.concatenate([probability[:, 1:], beyond], axis=1)
    high = probability >= SMALLEST_PEAK * xp.max(probability, axis=1, keepdims=True)
    is_peak = xp.where((probability > left) & (probability >= right) & high & (probability > 0), 1, 0)
    most = xp.maximum(xp.max(xp.sum(is_peak, axis=1)), 1)
    column = np.arange(size, dtype="int32")
    # Sorted, so that peaks of all spectra stand in the first columns, and their number is that of the busiest
    # one.
    peaks = xp.sort(xp.where(is_peak > 0, column, size), axis=1)[:, :most]
    # each bin belongs to the peak before it; those before the first peak are no valley
    number = xp.cumsum(is_peak, axis=1) - 1
    segment = xp.reshape(xp.arange(rows)[:, None] * most + xp.maximum(number, 0), (-1,))
    values = xp.reshape(xp.where(number >= 0, probability, np.inf), (-1,))
    lowest = _segment_min(values, segment, rows * most, xp)
    is_lowest = xp.reshape(values == xp.take(lowest, segment), (-1, size))
    places = xp.reshape(xp.where(is_lowest, column, size), (-1,))
    valleys = _segment_min(places, segment, rows * most, xp)
    return peaks, xp.reshape(valleys, (-1, most)), xp.reshape(lowest, (-1, most))


def _segment_min(values, segment, count, xp):
    """Lowest value of each segment, (count,); ``segment`` rises."""
    if xp is not np:
        return -xp.segment_max(-values, segment, count)
    lowest = np.full(count, values.max())
    starts = np.flatnonzero(np.append(True, segment[1:] != segment[:-1]))
    lowest[segment[starts]] = np.minimum.reduceat(values, starts)
    return lowest


def _while_loop(condition, body, variables, xp):
    """`keras.ops.while_loop`, with NumPy as well."""
    if xp is not np:
        return xp.while_loop(condition, body, variables)
    while condition(*variables):
        variables = body(*variables)
    return variables
