"""Prism against gratings: the brightest line in both, at the prism's resolution."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from data_pipeline.instrument import (
    FWHM_PER_SIGMA,
    GRATINGS,
    PRISM,
    SPEED_OF_LIGHT,
    arm_shares,
    degrading_operator,
    load_instrument,
    reference_instrument,
)
from data_pipeline.instrument.prism_pixels import LAG_COVARIANCE
from data_pipeline.lines import load_lines
from data_pipeline.lines.single_line import LineProfile, fit_profile
from data_pipeline.pairs.preprocessing import Pair
from data_pipeline.pairs.stitching import StitchedSpectrum
from data_pipeline.pixel_grid import UnifiedGrid

# Correlation of noise at lags of whole pixels: rectification spreads each detector pixel over neighbours.
# Prism: white noise interpolated to its finer pixels, as JADES residuals show; gratings: measured.
PRISM_CORRELATION = (*(LAG_COVARIANCE / LAG_COVARIANCE[0]), 0.0)
GRATING_CORRELATION = (1.0, 0.42, 0.0)


@dataclass(frozen=True)
class ArmComparison:
    """The brightest line of a pair in gratings, degraded gratings and prism.

    Attributes:
        line: its name.
        signal_to_noise: in the gratings.
        grating: fit to the stitched gratings.
        degraded: fit to the gratings degraded to the prism's resolution and pixels.
        prism: the same fit to the observed prism spectrum.
    """

    line: str
    signal_to_noise: float
    grating: LineProfile
    degraded: LineProfile
    prism: LineProfile

    @property
    def shift(self) -> tuple[float, float]:
        """Velocity of the prism against the degraded gratings, and its one-sigma error [km/s]."""
        error = np.hypot(self.prism.centre_error, self.degraded.centre_error) / self.degraded.centre
        return self.prism.velocity_from(self.degraded), float(error * SPEED_OF_LIGHT)

    @property
    def width_ratio(self) -> tuple[float, float]:
        """FWHM in the prism over that in the degraded gratings, and its one-sigma error."""
        return _ratio(
            (self.prism.fwhm, self.prism.fwhm_error), (self.degraded.fwhm, self.degraded.fwhm_error)
        )

    @property
    def flux_ratio(self) -> tuple[float, float]:
        """Flux in the prism over that in the degraded gratings, and its one-sigma error."""
        return _ratio(
            (self.prism.flux, self.prism.flux_error), (self.degraded.flux, self.degraded.flux_error)
        )


def _ratio(top: tuple[float, float], bottom: tuple[float, float]) -> tuple[float, float]:
    """Quotient of two independent (value, error), to first order; NaN over zero."""
    if bottom[0] == 0.0:
        return float("nan"), float("nan")
    value = top[0] / bottom[0]
    return value, float(np.hypot(top[1], value * bottom[1]) / abs(bottom[0]))


def noise_covariance(
    error: np.ndarray, correlation: Sequence[float], oversampling: np.ndarray
) -> sparse.csr_matrix:
    """Covariance of pixels whose noise was correlated when the spectrum was rectified.

    Correlations stand at lags of 0, 1, ... pixels of the instrument, the last one 0, straight in between;
    ``oversampling`` (n,) is pixels of this grid per such pixel; the error (n,) is 0 where masked.
    """
    lags = np.arange(len(correlation))
    bands, offsets = [error**2], [0]
    for lag in range(1, int(np.ceil(lags[-1] * oversampling.max()))):
        distance = 2.0 * lag / (oversampling[lag:] + oversampling[:-lag])
        band = np.interp(distance, lags, correlation) * error[lag:] * error[:-lag]
        bands += [band, band]
        offsets += [lag, -lag]
    return sparse.csr_matrix(sparse.diags(bands, offsets))


def grating_oversampling(grid: UnifiedGrid) -> np.ndarray:
    """(n,) pixels of a unified grid per pixel of the grating used there, 1 or more."""
    shares, wide = arm_shares(grid.wavelength), np.zeros(grid.wavelength.size)
    for grating in map(load_instrument, GRATINGS):
        wide += shares[grating.disperser] * grating.pixel_width(grid.wavelength)
    return np.maximum(wide / np.diff(grid.bounds, axis=0)[0], 1.0)


def degrade(
    stitched: StitchedSpectrum, grid: UnifiedGrid, covariance: sparse.csr_matrix
) -> tuple[np.ndarray, np.ndarray, sparse.csr_matrix]:
    """Stitched gratings at the prism's resolution, on its pixels.

    The covariance is that of the stitched flux, 0 where masked.

    Returns:
        Flux (706,), mask (706,) and covariance (706, 706).
    """
    operator = degrading_operator(grid)
    # Pixels beside a gap are masked below; what stands in for the gap only has to be finite.
    bridged = np.interp(
        stitched.wavelength, stitched.wavelength[~stitched.mask], stitched.flux[~stitched.mask]
    )
    seen = operator.matrix @ covariance @ operator.matrix.T
    return operator.apply(bridged), operator.propagate_mask(stitched.mask), sparse.csr_matrix(seen)


def compare_arms(pair: Pair, redshift: float, grid: UnifiedGrid) -> ArmComparison:
    """Fits the brightest common line in the gratings, in the prism, and in the degraded gratings.

    At the prism's resolution neighbours blend, in both members alike: compare ``degraded`` with ``prism``.

    Raises:
        ValueError: where no line is covered by both.
    """
    prism, reference, lines = load_instrument(PRISM), reference_instrument(grid), load_lines()
    stitched, (flux, error, bad) = pair.stitched, pair.prism
    oversampling = grating_oversampling(grid)
    noise = noise_covariance(np.where(stitched.mask, 0.0, stitched.error), GRATING_CORRELATION, oversampling)
    degraded, blind, degraded_noise = degrade(stitched, grid, noise)
    # The same pixels for both members, or a gap would shift one fit and not the other.
    both = bad | blind
    prism_noise = noise_covariance(np.where(bad, 0.0, error), PRISM_CORRELATION, np.ones(error.size))
    snr = np.nan_to_num(pair.lines.flux / pair.lines.error, nan=-np.inf)
    # Tied lines have the same S/N: of those the strongest.
    for i in np.lexsort((-np.nan_to_num(pair.lines.flux), -np.round(snr, 6))):
        if not np.isfinite(snr[i]):
            break
        centre = lines.wavelength[i] * (1.0 + redshift)
        width = prism.fwhm(centre)
        near = np.abs(prism.wavelength - centre) < 2.0 * width
        if near.sum() < 6 or both[near].any():
            continue
        velocity_fwhm = FWHM_PER_SIGMA * pair.lines.velocity_width / SPEED_OF_LIGHT * centre
        sharp = max(reference.fwhm(centre), velocity_fwhm)
        native = (stitched.wavelength, grid.bounds, stitched.flux, stitched.error, stitched.mask)
        # The same weights for both, or a blend would be weighed differently.
        pixels = (prism.wavelength, prism.bounds)
        return ArmComparison(
            lines.names[i],
            float(snr[i]),
            fit_profile(*native, centre, sharp, covariance=noise),
            fit_profile(*pixels, degraded, error, both, centre, width, covariance=degraded_noise),
            fit_profile(*pixels, flux, error, both, centre, width, covariance=prism_noise),
        )
    raise ValueError("no line lies on good pixels of both prism and gratings")
