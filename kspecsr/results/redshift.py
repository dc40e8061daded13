"""What P(z) says: modes with their masses, a redshift with its error and confidence, quantiles."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow_probability as tfp


# One-sigma width of each component of P(z), in bins: neighbours add up to a smooth density (to 0.2 %). The
# training loss has the same.
BIN_WIDTH = 0.6
_FINER = 16  # points of the cumulative distribution per bin, between which quantiles are interpolated


def _tensorflow_probability():
    """The package, without its remarks on the age of what it uses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import tensorflow_probability as tfp

        # lazy: the first use of each imports
        tfp.distributions.Normal, tfp.bijectors.Expm1  # noqa: B018
        return tfp


class RedshiftDistribution:
    """P(z) as a mixture of narrow normals in ln(1 + z), one per bin.

    The training loss of the redshift network is minus the log density of the same mixture in ln(1 + z).

    Args:
        probability: (..., Z) probability of each bin, adding up to 1.
        bins: (Z,) ln(1 + z) of the bins, evenly spaced.

    Attributes:
        log_tfd: the distribution of ln(1 + z).
        tfd: the distribution of z itself.
    """

    def __init__(self, probability: np.ndarray, bins: np.ndarray):
        self.probability = np.asarray(probability, dtype=np.float64)
        self.bins = np.asarray(bins, dtype=np.float64)
        if self.probability.shape[-1] != self.bins.size:
            raise ValueError(
                f"expected one probability per redshift bin ({self.bins.size}), got an array of shape "
                f"{self.probability.shape}"
            )
        self.width = BIN_WIDTH * float(self.bins[1] - self.bins[0])
        tfp = _tensorflow_probability()
        tfd = tfp.distributions
        with np.errstate(divide="ignore"):
            logits = np.log(self.probability)
        self.log_tfd = tfd.MixtureSameFamily(
            tfd.Categorical(logits=logits), tfd.Normal(self.bins, np.full(self.bins.shape, self.width))
        )
        self.tfd = tfd.TransformedDistribution(self.log_tfd, tfp.bijectors.Expm1())

    def log_prob(self, redshift) -> np.ndarray:
        """Log density at a redshift, (...)."""
        return np.asarray(self.tfd.log_prob(np.asarray(redshift, dtype=np.float64)))

    def cdf(self, redshift) -> np.ndarray:
        """Probability of a smaller redshift, (...)."""
        return np.asarray(self.log_tfd.cdf(np.log1p(np.asarray(redshift, dtype=np.float64))))

    def sample(self, n: int, seed: int | None = None) -> np.ndarray:
        """(n, ...) redshifts."""
        return np.asarray(self.tfd.sample(n, seed=seed))

    def quantile(self, q) -> np.ndarray:
        """Redshift below which a share ``q`` of the probability lies, (..., quantiles).

        TensorFlow Probability has none for mixtures: the cumulative distribution is inverted on a grid.

        Args:
            q: (quantiles,) between 0 and 1.

        Raises:
            ValueError: for shares outside (0, 1).
        """
        q = np.atleast_1d(np.asarray(q, dtype=np.float64))
        if not np.all((q > 0) & (q < 1)):
            raise ValueError(f"quantiles: expected numbers between 0 and 1, got {q.tolist()}")
        flat = self.probability.reshape(-1, self.bins.size)
        rows = [self._quantiles(row, q) for row in flat]
        return np.stack(rows).reshape(*self.probability.shape[:-1], q.size)

    def _quantiles(self, probability: np.ndarray, q: np.ndarray) -> np.ndarray:
        from scipy.special import ndtr

        step = self.bins[1] - self.bins[0]
        # the bins that can hold the quantiles: the rest need not be refined
        total = np.cumsum(probability)
        first = max(int(np.searchsorted(total, 0.5 * q.min())) - 8, 0)
        last = min(int(np.searchsorted(total, 1.0 - 0.5 * (1.0 - q.max()))) + 9, self.bins.size)
        edges = (self.bins[first] - 8 * self.width, self.bins[last - 1] + 8 * self.width)
        x = np.arange(edges[0], edges[1], step / _FINER)
        cdf = np.zeros(x.size)
        for k in np.flatnonzero(probability > 1e-12):
            cdf += probability[k] * ndtr((x - self.bins[k]) / self.width)
        return np.expm1(np.interp(q, cdf, x))


def redshift_distribution(probability: np.ndarray, bins: np.ndarray) -> RedshiftDistribution:
    """P(z) of one or many spectra; arguments as in `RedshiftDistribution`."""
    return RedshiftDistribution(probability, bins)


def flux_distribution(flux: np.ndarray, error: np.ndarray) -> tfp.distributions.Normal:
    """The predicted spectrum: independent normals per pixel.

    Args:
        flux: (..., N).
        error: (..., N) one sigma.
    """
    return _tensorflow_probability().distributions.Normal(
        np.asarray(flux, dtype=np.float64), np.asarray(error, dtype=np.float64)
    )


def predictive(outputs: Mapping[str, Any], bins: np.ndarray) -> dict[str, Any]:
    """Distributions of what a composed model gives.

    Args:
        outputs: of the composed model; see `kspecsr.models.compose`.
        bins: (Z,) ln(1 + z), of `kspecsr.models.redshift_bins`.

    Returns:
        ``flux``, ``sr1_flux`` and ``line_flux``: `tfd.Normal` in the outputs' units; ``redshift``: a
        `RedshiftDistribution`.
    """
    pairs = {"flux": "flux_error", "sr1_flux": "sr1_error", "line_flux": "line_flux_error"}
    distributions: dict[str, Any] = {
        name: flux_distribution(outputs[name], outputs[error])
        for name, error in pairs.items()
        if name in outputs
    }
    distributions["redshift"] = RedshiftDistribution(outputs["redshift_probability"], bins)
    return distributions


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
