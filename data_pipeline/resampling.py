"""Flux-conserving resampling with errors and masks, and up-sampling to a finer grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse
from scipy.interpolate import CubicSpline, PchipInterpolator

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.instrument.prism_pixels import SHARED_NOISE
from data_pipeline.pixel_grid import cubic_weights, pixel_bounds


@dataclass(frozen=True)
class Resampler:
    """Rebinning between two pixel grids: each output pixel is the mean flux density over its bounds.

    Integrated flux is conserved exactly where the output grid covers the input. Masked pixels take no
    part; an output pixel less than ``minimum_coverage`` of which saw good data is masked.

    Attributes:
        overlap: (n_out, n_in) CSR of the width shared by two pixels [um].
        width: (n_out,) widths of the output pixels [um].
        minimum_coverage: smallest share of an output pixel that must be covered by good input.
    """

    overlap: sparse.csr_matrix
    width: np.ndarray
    minimum_coverage: float = 0.5

    @classmethod
    def between(
        cls, bounds_in: np.ndarray, bounds_out: np.ndarray, minimum_coverage: float = 0.5
    ) -> Resampler:
        """Resampler from (2, n_in) to (2, n_out) pixel bounds [um], both in increasing order."""
        if not 0 < minimum_coverage <= 1:
            raise ValueError(f"expected minimum_coverage in (0, 1], got {minimum_coverage}")
        low = np.searchsorted(bounds_in[1], bounds_out[0], "right")
        high = np.searchsorted(bounds_in[0], bounds_out[1], "left")
        count = np.maximum(high - low, 0)
        row = np.repeat(np.arange(count.size), count)
        column = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
        shared = np.minimum(bounds_out[1][row], bounds_in[1][column]) - np.maximum(
            bounds_out[0][row], bounds_in[0][column]
        )
        matrix = sparse.csr_matrix(
            (np.maximum(shared, 0.0), (row, column)), shape=(count.size, bounds_in.shape[1])
        )
        return cls(matrix, np.diff(bounds_out, axis=0)[0], minimum_coverage)

    def resample(
        self, flux: np.ndarray, error: np.ndarray, mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Resamples flux density, error and mask, (n_in,) or (b, n_in), to n_out pixels.

        Errors are taken as independent; True is bad. Masked pixels of the result are NaN. Where the output is
        finer than the input, neighbouring errors are correlated and each is that of its input pixel.
        """
        good = ~np.asarray(mask, bool)
        seen = (self.overlap @ good.astype(np.float64).T).T
        # A hair below, so that rounding of shared bounds does not mask pixels that are covered whole.
        bad = seen < self.minimum_coverage * self.width * (1.0 - 1e-9)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (self.overlap @ np.where(good, flux, 0.0).T).T / seen
            sigma = np.sqrt((self.overlap.power(2) @ np.where(good, error, 0.0).T ** 2).T) / seen
        mean[bad] = np.nan
        sigma[bad] = np.nan
        return mean, sigma, bad


@lru_cache(maxsize=32)
def _cached_resampler(grid_in: bytes, grid_out: bytes, minimum_coverage: float) -> Resampler:
    bounds_in = np.frombuffer(grid_in).reshape(2, -1)
    bounds_out = np.frombuffer(grid_out).reshape(2, -1)
    return Resampler.between(bounds_in, bounds_out, minimum_coverage)


def resampler(bounds_in: np.ndarray, bounds_out: np.ndarray, minimum_coverage: float = 0.5) -> Resampler:
    """`Resampler.between`, cached: an archive has few grids and many spectra."""
    return _cached_resampler(
        np.ascontiguousarray(bounds_in, dtype=np.float64).tobytes(),
        np.ascontiguousarray(bounds_out, dtype=np.float64).tobytes(),
        minimum_coverage,
    )


def to_pixels(
    wavelength: np.ndarray,
    flux: np.ndarray,
    error: np.ndarray,
    mask: np.ndarray,
    target: np.ndarray,
    minimum_coverage: float = 0.5,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Brings a spectrum onto other pixels of similar or smaller size, conserving flux.

    The running integral is interpolated with a cubic spline and differenced, so that a coarser input
    does not come out as stairs, which would broaden the line-spread function. On the pixels that the
    spectrum has already (to 1e-6) it is returned as it is.

    Args:
        wavelength: (n,) pixel centres [um].
        flux: (n,) flux density.
        error: (n,) one-sigma errors, taken as independent.
        mask: (n,) bool, True = bad.
        target: (m,) pixel centres to bring it to [um].
        minimum_coverage: share of a target pixel that good input must cover.

    Returns:
        Flux, error and mask, (m,) each; NaN where masked. Errors are those of the mean over a target pixel:
        where that is finer than the input, neighbours share an input pixel and their errors are correlated.
    """
    row = _rows_of(target, wavelength)
    if row is not None:
        bad = (row < 0) | mask[row]
        return np.where(bad, np.nan, flux[row]), np.where(bad, np.nan, error[row]), bad
    bounds, bounds_out = pixel_bounds(wavelength), pixel_bounds(target)
    good = ~mask
    # Bad pixels are bridged for the integral alone; the pixels that they reach are masked below.
    bridged = np.interp(wavelength, wavelength[good], flux[good])
    edges = np.append(bounds[0], bounds[1, -1])
    integral = np.concatenate([[0.0], np.cumsum(bridged * np.diff(edges))])
    clipped = np.clip(bounds_out, edges[0], edges[-1])
    spline = CubicSpline(edges, integral)
    coarse, sigma, bad = resampler(bounds, bounds_out, minimum_coverage).resample(flux, error, mask)
    # Where any bad pixel has a part in the result its plain mean over good ones is taken: the spline has seen
    # the bridge.
    touched = resampler(bounds, bounds_out, 1.0).resample(flux, error, mask)[2]
    width = np.diff(clipped, axis=0)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        smooth = (spline(clipped[1]) - spline(clipped[0])) / width
    return np.where(touched, coarse, smooth), sigma, bad


# Input step over the networks' pixel (0.6 detector pixels) from which the input's pixels are taken for the
# detector's own: 0.8 detector pixels. Those of DJA have 0.95 or 1, the STScI pipeline's 0.99.
COARSE = 4.0 / 3.0


def to_prism_pixels(
    wavelength: np.ndarray, flux: np.ndarray, error: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Brings a prism spectrum of any release onto the P pixels that the networks take, as JADES does.

    The JADES pipeline interpolates detector pixels linearly, flux and error alike. Done with pixels that are
    about as large as the detector's, the result has the noise, the correlation and the line widths of a JADES
    spectrum: its variance is 2/3 of the quoted one, and a chi-square of one means what it means there. A
    smoother interpolation would sharpen lines and noise. Pixels finer than that are averaged, and a spectrum
    that has the networks' pixels already (to 1e-6) is returned as it is. Arrays are as in `to_pixels`, or
    (b, n) for many spectra on the same pixels, which come out as (b, P).
    """
    prism = load_instrument(PRISM)
    target, bounds = prism.wavelength, pixel_bounds(wavelength)
    row = _rows_of(target, wavelength)
    if row is not None:
        bad = (row < 0) | mask[..., row]
        return np.where(bad, np.nan, flux[..., row]), np.where(bad, np.nan, error[..., row]), bad
    mean, sigma, uncovered = resampler(bounds, prism.bounds).resample(flux, error, mask)
    left, right, outside = neighbours(wavelength, bounds, target)
    span = wavelength[right] - wavelength[left]
    share = (target - wavelength[left]) / np.where(span > 0, span, 1.0)
    gap = bounds[1, left] < bounds[0, right] - 1e-12
    outside |= gap & (target > bounds[1, left]) & (target < bounds[0, right])
    share = np.where(gap, np.round(share), np.clip(share, 0.0, 1.0))  # beside a gap the nearer one alone
    weight = np.stack([(1.0 - share) * ~mask[..., left], share * ~mask[..., right]])
    seen = weight.sum(axis=0)
    weight /= np.where(seen > 0, seen, 1.0)
    coarse = span > COARSE * np.diff(prism.bounds, axis=0)[0]
    bad = np.where(coarse, outside | (seen < 0.5), uncovered)
    values = np.where(mask, 0.0, [flux, SHARED_NOISE * error])
    linear = weight[0] * values[..., left] + weight[1] * values[..., right]
    flux, error = np.where(bad, np.nan, np.where(coarse, linear, [mean, sigma]))
    return flux, error, bad


def _rows_of(target: np.ndarray, wavelength: np.ndarray) -> np.ndarray | None:
    """Row of ``wavelength`` for each target pixel, -1 outside; None unless the grids share their pixels."""
    row = np.clip(np.searchsorted(wavelength, target), 1, wavelength.size - 1)
    row -= (target - wavelength[row - 1]) < (wavelength[row] - target)
    # A millionth is 0.3 km/s: files that went through float32 count as the same pixels.
    same = np.abs(wavelength[row] - target) < 1e-6 * target
    inside = (target > wavelength[0] * (1 - 1e-6)) & (target < wavelength[-1] * (1 + 1e-6))
    # a finer grid may hold the target's centres among others: then it is not the same, and is averaged
    within = (wavelength > target[0] * (1 - 1e-6)) & (wavelength < target[-1] * (1 + 1e-6))
    if not inside.any() or within.sum() != inside.sum() or not np.array_equal(same, inside):
        return None
    return np.where(inside, row, -1)


def upsample(
    wavelength: np.ndarray, flux: np.ndarray, error: np.ndarray, mask: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Evaluates a coarse spectrum on a fine grid: cubic for flux, monotone cubic for error.

    Paper section 3.1. A plain cubic of the error goes negative beside a steep rise, so its uncertainty is a
    PCHIP. Fine pixels beside a masked coarse pixel, in a gap or outside are masked. Arrays are as in
    `to_pixels`.

    Raises:
        ValueError: for fewer than four good pixels.
    """
    good = ~mask
    if good.sum() < 4:
        raise ValueError(f"expected four or more good pixels for a cubic, got {good.sum()} of {mask.size}")
    bounds = pixel_bounds(wavelength)
    left, right, outside = neighbours(wavelength, bounds, target)
    bad = outside | mask[left] | mask[right]
    bad |= (target > bounds[1, left] + 1e-12) & (target < bounds[0, right] - 1e-12)  # in a gap
    fine = CubicSpline(wavelength[good], flux[good])(target)
    sigma = PchipInterpolator(wavelength[good], error[good])(target)
    # Half a pixel beyond the first and last centre the monotone cubic extrapolates: hold the edge there.
    sigma = np.clip(sigma, error[good].min(), error[good].max())
    return np.where(bad, np.nan, fine), np.where(bad, np.nan, sigma), bad


def upsample_rows(
    wavelength: np.ndarray, flux: np.ndarray, error: np.ndarray, mask: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`upsample` of many spectra, (B, n) each: flux and error (B, m), NaN where a spectrum has no data."""
    fine, sigma = np.full((2, len(flux), len(target)), np.nan)
    flux, error = (np.asarray(array, np.float64) for array in (flux, error))
    mask = np.asarray(mask).astype(bool)
    for row in np.flatnonzero((~mask).sum(axis=1) >= 4):
        fine[row], sigma[row], _ = upsample(wavelength, flux[row], error[row], mask[row], target)
    return fine, sigma


def neighbours(
    wavelength: np.ndarray, bounds: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, of bounds (2, n) [um], on either side of each target wavelength (m,) [um].

    Returns:
        (m,) indices of the pixels to the left and to the right, and (m,) bool: outside all pixels.
    """
    right = np.searchsorted(wavelength, target, "left")
    left, right = (np.clip(index, 0, wavelength.size - 1) for index in (right - 1, right))
    return left, right, (target < bounds[0, 0]) | (target > bounds[1, -1])


def cubic_interpolation(place: np.ndarray, count: int) -> sparse.csr_matrix:
    """(m, count) CSR of four-point cubic interpolation at places [pixels]; the end values are held."""
    place = np.clip(place, 0, count - 1)
    left = np.minimum(place.astype(int), count - 2)
    weights = np.concatenate(cubic_weights(place - left))
    columns = np.concatenate([np.clip(left + step, 0, count - 1) for step in (-1, 0, 1, 2)])
    rows = np.tile(np.arange(place.size), 4)
    return sparse.csr_matrix((weights, (rows, columns)), shape=(place.size, count))
