"""What P(z) says: modes with their masses, a redshift with its error and confidence, quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kspecsr.predictive import BIN_WIDTH, RedshiftDistribution, redshift_distribution

if TYPE_CHECKING:
    import tensorflow_probability as tfp

# Peaks belong to one mode if they lie this close in ln(1 + z), or if the valley between them is no deeper.
CLOSE = 0.004
VALLEY = 0.5  # of the lower peak
SMALLEST_PEAK = 1e-3  # of the highest; what is lower belongs to a neighbour
LOCAL = 0.01  # of a mode's peak: where its mean and width are taken
NEAR = 0.01  # ln(1 + z): a mode broader than this on either side is no redshift, whatever its mass
_SMALLEST_MASS = 1e-3  # modes below it are not listed


@dataclass(frozen=True)
class RedshiftMode:
    """One mode of P(z).

    Attributes:
        redshift: local mean.
        error: local standard deviation.
        mass: probability between the valleys beside it.
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
        modes: of P(z), the heaviest first; those below 0.001 are left out.
        bins: (Z,) ln(1 + z) of the probabilities.
        probability: (Z,) probability per bin, sums to 1.
    """

    value: float
    error: float
    confidence: float
    given: bool
    modes: tuple[RedshiftMode, ...]
    bins: np.ndarray
    probability: np.ndarray

    @property
    def grid(self) -> np.ndarray:
        """(Z,) redshifts of the bins."""
        return np.expm1(self.bins)

    @property
    def density(self) -> np.ndarray:
        """(Z,) probability per unit of z at `grid`: the density of `distribution`."""
        return self._smooth() / (_step(self.bins) * np.exp(self.bins))

    @property
    def distribution(self) -> RedshiftDistribution:
        """P(z) with ``log_prob``, ``cdf``, ``sample`` and ``quantile``; imports TensorFlow Probability."""
        return redshift_distribution(self.probability, self.bins)

    @property
    def tfd(self) -> tfp.distributions.Distribution:
        """P(z) as a TensorFlow Probability distribution of z."""
        return self.distribution.tfd

    def quantile(self, share: float | Sequence[float]) -> np.ndarray:
        """Redshift below which this share of P(z) lies, to a fifth of a bin.

        Args:
            share: 0-1, one or several.

        Returns:
            Redshifts of the same shape.
        """
        step = _step(self.bins)
        edges = np.append(self.bins - 0.5 * step, self.bins[-1] + 0.5 * step)
        below = np.append(0.0, np.cumsum(self._smooth()))
        rising = np.append(True, np.diff(below) > 0)
        share = np.asarray(share, dtype=np.float64)
        # bin 0 is centred on z = 0: half of it would lie below
        return np.maximum(np.expm1(np.interp(share * below[-1], below[rising], edges[rising])), 0.0)

    def _smooth(self) -> np.ndarray:
        """Probability per bin with each bin's normal spread over its neighbours."""
        reach = int(np.ceil(5 * BIN_WIDTH))
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / BIN_WIDTH) ** 2)
        return np.convolve(self.probability, kernel / kernel.sum(), mode="same")


def summarise_redshift(
    probability: np.ndarray, bins: np.ndarray, redshift: float, given: bool = False
) -> RedshiftSummary:
    """Summary of one spectrum's P(z).

    Args:
        probability: (Z,) per bin.
        bins: (Z,) ln(1 + z), evenly spaced.
        redshift: at which the network placed the lines.
        given: whether the caller gave it.
    """
    probability = np.where(np.isfinite(probability), probability, 0.0).astype(np.float64)
    total = probability.sum()
    modes = find_modes(probability / total, bins) if total > 0 else ()
    holding = next((m for m in modes if m.low <= redshift <= m.high), None)
    confidence = 0.0
    if holding is not None:
        inside = (np.expm1(bins) >= holding.low) & (np.expm1(bins) <= holding.high)
        near = np.abs(bins - np.log1p(redshift)) <= NEAR
        confidence = min(float(probability[inside & near].sum() / total), 1.0)
    error = 0.0 if given else holding.error if holding is not None else float("nan")
    return RedshiftSummary(
        value=float(redshift),
        error=error,
        confidence=confidence,
        given=given,
        modes=tuple(m for m in modes if m.mass >= _SMALLEST_MASS),
        bins=np.asarray(bins, dtype=np.float64),
        probability=probability / total if total > 0 else probability,
    )


def find_modes(probability: np.ndarray, bins: np.ndarray) -> tuple[RedshiftMode, ...]:
    """Modes of P(z), the heaviest first; together they hold all of it.

    Neighbouring peaks are one mode if they are closer than 0.004 in ln(1 + z), or if the valley between
    them is higher than half of the lower one; modes end in the valleys.

    Args:
        probability: (Z,), sums to 1.
        bins: (Z,) ln(1 + z), evenly spaced.
    """
    step = _step(bins)
    peaks, valleys = _peaks_and_valleys(probability, max(1, round(CLOSE / step)))
    starts = np.append(0, valleys)
    ends = np.append(valleys, probability.size)
    modes = [
        _mode(probability, bins, step, int(peak), int(start), int(end))
        for peak, start, end in zip(peaks, starts, ends, strict=True)
    ]
    return tuple(sorted(modes, key=lambda mode: -mode.mass))


def _peaks_and_valleys(probability: np.ndarray, close: int) -> tuple[list[int], list[int]]:
    """Bins of the peaks that count, and the first bin of each but the first mode."""
    padded = np.concatenate([[-np.inf], probability, [-np.inf]])
    local = np.flatnonzero((padded[1:-1] > padded[:-2]) & (padded[1:-1] >= padded[2:]))
    local = local[probability[local] >= SMALLEST_PEAK * probability.max()]
    peaks, valleys = [int(local[0])], []
    for peak in map(int, local[1:]):
        last = peaks[-1]
        valley = last + int(np.argmin(probability[last : peak + 1]))
        lower = min(probability[last], probability[peak])
        if peak - last <= close or probability[valley] >= VALLEY * lower:
            if probability[peak] > probability[last]:
                peaks[-1] = peak
            continue
        peaks.append(peak)
        valleys.append(valley)
    return peaks, valleys


def _mode(
    probability: np.ndarray, bins: np.ndarray, step: float, peak: int, start: int, end: int
) -> RedshiftMode:
    """A mode between two valleys; mean and width from the bins around its peak, not from its far wings."""
    part = probability[start:end]
    local = part >= LOCAL * probability[peak]
    # the contiguous stretch around the peak
    off = np.flatnonzero(~local)
    left = off[off < peak - start]
    right = off[off > peak - start]
    rows = slice(
        start + (left[-1] + 1 if left.size else 0), start + (right[0] if right.size else end - start)
    )
    weight = probability[rows] / probability[rows].sum()
    mean = float(weight @ bins[rows])
    # each bin stands for a normal of this width
    variance = float(weight @ (bins[rows] - mean) ** 2) + (BIN_WIDTH * step) ** 2
    return RedshiftMode(
        redshift=float(np.expm1(mean)),
        error=float(np.exp(mean) * np.sqrt(variance)),
        mass=float(part.sum()),
        low=float(np.expm1(bins[start] - 0.5 * step)),
        high=float(np.expm1(bins[end - 1] + 0.5 * step)),
    )


def _step(bins: np.ndarray) -> float:
    return float(bins[-1] - bins[0]) / (bins.size - 1)
