"""One pixel-averaged Gaussian on a straight continuum: centre, width and flux of a line of any kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import curve_fit

from data_pipeline.instrument import ANGSTROM_PER_UM, FWHM_PER_SIGMA, SPEED_OF_LIGHT
from data_pipeline.lines.profile import pixel_mean, pixel_mean_gradient


@dataclass(frozen=True)
class LineProfile:
    """Centre, width and flux of a fitted line.

    Attributes:
        centre: [um].
        centre_error: [um].
        fwhm: observed, instrument included [um].
        fwhm_error: [um].
        flux: [erg/s/cm2].
        flux_error: [erg/s/cm2].
    """

    centre: float
    centre_error: float
    fwhm: float
    fwhm_error: float
    flux: float
    flux_error: float

    def velocity_from(self, other: LineProfile) -> float:
        """Shift of this line against another [km/s]."""
        return (self.centre / other.centre - 1.0) * SPEED_OF_LIGHT


@dataclass(frozen=True)
class _PixelGaussian:
    """Gaussian averaged over pixels plus a straight line; positions from the expected centre [um]."""

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def value(self, _, amplitude, offset, width, level, slope) -> np.ndarray:
        """(n,) flux density."""
        return amplitude * pixel_mean(self.low, self.high, offset, width) + level + slope * self.x

    def jacobian(self, _, amplitude, offset, width, level, slope) -> np.ndarray:
        """(n, 5) derivatives of `value` by its parameters."""
        by_offset, by_width = pixel_mean_gradient(self.low, self.high, offset, width)
        line = pixel_mean(self.low, self.high, offset, width)
        return np.stack(
            [line, amplitude * by_offset, amplitude * by_width, np.ones_like(self.x), self.x], axis=1
        )


def fit_profile(
    wavelength: np.ndarray,
    bounds: np.ndarray,
    flux: np.ndarray,
    error: np.ndarray,
    mask: np.ndarray,
    centre: float,
    fwhm: float,
    reach: float = 3.0,
    covariance: sparse.spmatrix | None = None,
) -> LineProfile:
    """Fits a pixel-averaged Gaussian and a straight continuum within ``reach`` FWHM of ``centre``.

    The paper's equation 1 (Gaussian plus linear continuum), averaged over pixels so that an undersampled line
    keeps its flux. Arrays are (n,) on pixels with bounds (2, n) [um]; errors weigh the fit, and the mask is
    True where bad. ``centre`` and ``fwhm`` [um] are those expected. With a covariance (n, n) of the flux
    densities the errors of centre, width and flux follow from it whatever the weights; else ``error`` is all
    there is to the noise.

    Raises:
        ValueError: with fewer than six good pixels in the window, or where no line can be fitted.
    """
    near = ~mask & (np.abs(wavelength - centre) < reach * fwhm)
    if near.sum() < 6:
        raise ValueError(f"{near.sum()} good pixels within {reach} FWHM of {centre:.4f} um; six are needed")
    x, (low, high), y, sigma = wavelength[near] - centre, bounds[:, near] - centre, flux[near], error[near]
    # Parameters of order one, for which the steps and tolerances of the fit are made.
    unit = np.max(np.abs(y))

    profile = _PixelGaussian(x, low, high)
    edge = np.abs(x) > 1.5 * fwhm
    # Outside the line, so that a start for a bright line is not half its height.
    level = np.median(y[edge] if edge.sum() > 2 else y) / unit
    start = (
        max(np.sum((y / unit - level) * (high - low)), 0.1 * fwhm),
        0.0,
        fwhm / FWHM_PER_SIGMA,
        level,
        0.0,
    )
    limits = ([0, -fwhm, 0.1 * start[2], -np.inf, -np.inf], [np.inf, fwhm, 4 * start[2], np.inf, np.inf])
    try:
        best, spread = curve_fit(
            profile.value,
            x,
            y / unit,
            start,
            sigma / unit,
            absolute_sigma=True,
            bounds=limits,
            jac=profile.jacobian,
            x_scale="jac",  # centre and slope differ in size by thousands: unscaled, the fit stops early
        )
    except RuntimeError as reason:
        raise ValueError(f"no line could be fitted at {centre:.4f} um: {reason}") from reason
    if covariance is not None:
        # The fit is linear near its end: parameters follow the pixels through this matrix.
        response = spread @ (profile.jacobian(x, *best) / (sigma / unit)[:, None] ** 2).T
        inside = sparse.csr_matrix(covariance)[near][:, near].toarray() / unit**2
        spread = response @ inside @ response.T
    deviation = np.sqrt(np.diag(spread))
    flux_unit = unit * ANGSTROM_PER_UM
    return LineProfile(
        float(centre + best[1]),
        float(deviation[1]),
        float(best[2] * FWHM_PER_SIGMA),
        float(deviation[2] * FWHM_PER_SIGMA),
        float(best[0] * flux_unit),
        float(deviation[0] * flux_unit),
    )
