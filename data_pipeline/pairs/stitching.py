"""Stitching grating segments into one spectrum on the unified grid (paper section 3.1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from scipy.optimize import minimize_scalar

from data_pipeline.instrument import HAND_OVERS, arm_shares
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.resampling import to_pixels
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError

# Its flux scale is kept: the one arm that overlaps with both others, so no scale is the product of two.
REFERENCE_ARM = "G235M"


@dataclass(frozen=True)
class StitchConfig:
    """Settings of the stitching.

    Attributes:
        bin_pixels: grid pixels per bin in which an overlap is compared. Bins much wider than a line make
            the comparison independent of the arms' different resolving powers.
        scale_prior: one-sigma width of the lognormal prior on an arm's relative scale; keeps an overlap
            without signal from choosing a wild scale.
        minimum_bins: fewest common bins from which a scale is taken.
        outlier_sigma: bins that disagree by more than this many robust sigma do not count.
        step_taper: distance [um] over which the correction of a residual step fades out.
        minimum_coverage: share of a grid pixel that good data must cover.
    """

    bin_pixels: int = 20
    scale_prior: float = 0.15
    minimum_bins: int = 3
    outlier_sigma: float = 4.0
    step_taper: float = 0.2
    minimum_coverage: float = 0.5

    def __post_init__(self) -> None:
        for name in ("bin_pixels", "minimum_bins", "scale_prior", "step_taper", "outlier_sigma"):
            if not getattr(self, name) > 0:
                raise ValueError(f"stitching: expected {name} > 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class Overlap:
    """Comparison of two arms in their overlap.

    Attributes:
        low: its first wavelength [um].
        high: its last wavelength [um].
        scale: factor that brings the other arm to the one nearer the reference.
        scale_error: one-sigma error of ``scale``; inf where no scale could be measured.
        offset: residual step removed [flux units], after scaling.
        bins: number of common bins.
    """

    low: float
    high: float
    scale: float
    scale_error: float
    offset: float
    bins: int


@dataclass(frozen=True)
class StitchedSpectrum:
    """Gratings joined on the unified grid.

    Attributes:
        wavelength: (n,) grid [um].
        flux: (n,) flux density [erg/s/cm2/A]; NaN where masked.
        error: (n,) one-sigma errors [erg/s/cm2/A]; NaN where masked.
        mask: (n,) bool, True = no good data: detector gaps stay gaps.
        arms: dispersers in order of wavelength.
        scales: disperser to the factor applied to it.
        overlaps: (bluer, redder) disperser to `Overlap`.
        seams: wavelengths at which a hand-over between two arms begins or ends [um].
        segments: disperser to its (flux, error, mask) on the grid after scaling and step removal.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    mask: np.ndarray
    arms: tuple[str, ...]
    scales: dict[str, float]
    overlaps: dict[tuple[str, str], Overlap]
    seams: tuple[float, ...]
    segments: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = field(repr=False)


def stitch(
    spectra: Sequence[ObservedSpectrum],
    grid: UnifiedGrid | None = None,
    config: StitchConfig | None = None,
) -> StitchedSpectrum:
    """Join one to three grating spectra.

    Each arm is resampled to the grid with its flux conserved. In each overlap the relative scale minimises
    the error-weighted squared flux difference, with the errors of *both* arms in the denominator (the
    one-sided least-squares scale shrinks where the spectrum is noisy). Scales run outwards from
    `REFERENCE_ARM`, or from the middle arm where that is absent. What step is left is removed and fades out
    over ``step_taper``. One arm hands over to the next as in `arm_shares`, with inverse variance as weight,
    so that the result has the line-spread function of `reference_instrument` (within a hand-over: its
    variance, to 8 %, as the sum of two Gaussians is none); where the arm in charge has no good pixel, the
    other one stands in.

    Args:
        spectra: one per disperser.
        grid: unified grid; None for the default.
        config: None for the default.

    Raises:
        SpectrumError: for no spectrum, or two of the same disperser.
    """
    config = config or StitchConfig()
    grid = grid or UnifiedGrid()
    arms = sorted(spectra, key=lambda s: s.wavelength[0])
    names = tuple(s.meta.disperser for s in arms)
    if not arms or len(set(names)) != len(names):
        raise SpectrumError(f"stitching: expected one spectrum per disperser, got {list(names) or 'none'}")
    segments = {
        s.meta.disperser: to_pixels(
            s.wavelength, s.flux, s.error, s.mask, grid.wavelength, config.minimum_coverage
        )
        for s in arms
    }
    home = names.index(REFERENCE_ARM) if REFERENCE_ARM in names else len(names) // 2
    order = [(i - 1, i) for i in range(home + 1, len(names))] + [(i + 1, i) for i in range(home - 1, -1, -1)]
    scales, overlaps = {names[home]: 1.0}, {}
    for near, far in order:
        overlap = _measure_overlap(grid.wavelength, segments[names[near]], segments[names[far]], config)
        scales[names[far]] = overlap.scale
        overlaps[names[min(near, far)], names[max(near, far)]] = overlap
        segments[names[far]] = _correct(grid.wavelength, segments[names[far]], overlap, far > near, config)
    flux, error, mask = _average(segments, names, grid.wavelength)
    seams = tuple(edge for pair in pairwise(names) for edge in HAND_OVERS.get(pair, ()))
    return StitchedSpectrum(grid.wavelength, flux, error, mask, names, scales, overlaps, seams, segments)


def _measure_overlap(wavelength, near, far, config: StitchConfig) -> Overlap:
    both = ~near[2] & ~far[2]
    span = wavelength[both]
    if span.size < config.minimum_bins * config.bin_pixels:
        edge = float(span[0]) if span.size else float("nan")
        return Overlap(edge, float(span[-1]) if span.size else edge, 1.0, np.inf, 0.0, 0)
    # Numbered by the grid, so that bins are places on it and no run of good pixels; empty ones fall out
    # below.
    number = np.flatnonzero(both) // config.bin_pixels
    number -= number[0]
    # One weight per bin, the same for both arms: photon noise follows a line, and would weigh the profiles of
    # two arms of unequal width differently.
    variance = near[1][both] ** 2 + far[1][both] ** 2
    weight = 1.0 / (np.bincount(number, variance) / np.maximum(np.bincount(number), 1))[number]
    total = np.bincount(number, weight)
    filled = total > 0

    def binned(values, power):
        return np.bincount(number, values * weight**power)[filled] / total[filled] ** power

    flux_near, flux_far = binned(near[0][both], 1), binned(far[0][both], 1)
    variance_near, variance_far = binned(near[1][both] ** 2, 2), binned(far[1][both] ** 2, 2)
    sane = _sane_bins(flux_near, variance_near, flux_far, variance_far, config)
    flux_near, variance_near = flux_near[sane], variance_near[sane]
    flux_far, variance_far = flux_far[sane], variance_far[sane]
    scale, scale_error = _relative_scale(flux_near, variance_near, flux_far, variance_far, config.scale_prior)
    # Errors of neighbouring grid pixels are correlated and quoted errors are not always right: the scatter
    # of the bins themselves decides how much the overlap weighs against the prior.
    variance = variance_near + scale**2 * variance_far
    excess = np.sum((flux_near - scale * flux_far) ** 2 / variance) / max(sane.sum() - 1, 1)
    if excess > 1.0:
        variance_near, variance_far = excess * variance_near, excess * variance_far
        scale, scale_error = _relative_scale(
            flux_near, variance_near, flux_far, variance_far, config.scale_prior
        )
    variance = variance_near + scale**2 * variance_far
    offset = np.sum((flux_near - scale * flux_far) / variance) / np.sum(1.0 / variance)
    return Overlap(float(span[0]), float(span[-1]), scale, scale_error, float(offset), int(sane.sum()))


def _sane_bins(flux_near, variance_near, flux_far, variance_far, config: StitchConfig) -> np.ndarray:
    """Bins in which the arms agree once scaled: wild pixels at the ends of an arm are often not masked."""
    rough, _ = _relative_scale(flux_near, variance_near, flux_far, variance_far, config.scale_prior, np.log1p)
    pull = np.abs(flux_near - rough * flux_far) / np.sqrt(variance_near + rough**2 * variance_far)
    sane = pull <= config.outlier_sigma * max(1.0, 1.4826 * float(np.median(pull)))
    # Where the arms disagree everywhere the scale is the disagreement itself: all bins count again.
    return sane if sane.sum() >= config.minimum_bins else np.ones(pull.shape, bool)


def _relative_scale(
    flux_near, variance_near, flux_far, variance_far, prior: float, loss: Callable = np.asarray
) -> tuple[float, float]:
    """Scale of the far arm: maximum a posteriori of ln(scale), and its error from the curvature.

    ``loss`` of the squared pulls: the identity for Gaussian errors, ``log1p`` where some may be wild.
    """

    def cost(log_scale: float) -> float:
        scale = np.exp(log_scale)
        variance = variance_near + scale**2 * variance_far
        misfit = np.sum(loss((flux_near - scale * flux_far) ** 2 / variance))
        return misfit + (log_scale / prior) ** 2

    best = minimize_scalar(cost, bounds=(-5 * prior, 5 * prior), method="bounded", options={"xatol": 1e-7}).x
    h = 1e-3
    curvature = (cost(best + h) - 2 * cost(best) + cost(best - h)) / h**2
    scale = float(np.exp(best))
    return scale, float(scale * np.sqrt(2.0 / curvature)) if curvature > 0 else np.inf


def _correct(wavelength, segment, overlap: Overlap, redward: bool, config: StitchConfig):
    """Apply scale and step correction to the arm farther from the reference."""
    flux, error, mask = segment
    if overlap.bins == 0:
        return segment
    distance = wavelength - overlap.high if redward else overlap.low - wavelength
    # A step that was taken off the whole arm would shift its far end, of which the overlap says nothing.
    fade = np.clip(1.0 - distance / config.step_taper, 0.0, 1.0)
    return flux * overlap.scale + overlap.offset * fade, error * overlap.scale, mask


def _average(segments, names, wavelength):
    """Join the arms by shares over variance; where the arm in charge is blind the other stands in."""
    shares = arm_shares(wavelength)
    good = {name: ~segments[name][2] for name in names}
    in_charge = np.any([good[name] & (shares.get(name, 1.0) > 0) for name in names], axis=0)
    total, summed, variance = np.zeros((3, wavelength.size))
    for name in names:
        flux, error, _ = segments[name]
        share = np.where(in_charge, shares.get(name, 1.0), 1.0)
        weight = np.zeros(wavelength.size)
        weight[good[name]] = (share / error**2)[good[name]]
        total += weight
        summed += weight * np.where(good[name], flux, 0.0)
        variance += (weight * np.where(good[name], error, 0.0)) ** 2
    mask = total <= 0
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(mask, np.nan, summed / total), np.where(mask, np.nan, np.sqrt(variance) / total), mask
