"""What a direct line fit found, and the sharp spectrum that it implies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse

from data_pipeline.instrument import PRISM, load_instrument, reference_instrument
from data_pipeline.lines import load_lines
from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.methods.prism_optics import PixelWindows, line_sigma, scattered, windows

_REACH = 5.0  # sigma on either side: 6e-7 of the flux lies beyond


@dataclass(frozen=True, eq=False)
class DrawnLines:
    """Sum of the lines, ``flux`` (B, N), and ``variance`` (B, N) of it."""

    flux: np.ndarray
    variance: np.ndarray


def draw_lines(
    grid: UnifiedGrid, centre: np.ndarray, flux: np.ndarray, covariance: np.ndarray, velocity_sigma: float
) -> DrawnLines:
    """Draws lines as Gaussians integrated over the pixels.

    Args:
        grid: unified grid, N pixels.
        centre: (B, K) observed wavelengths [um]; anything where flux and covariance are 0.
        flux: (B, K) [flux density x Angstrom].
        covariance: (B, K, K) of the fluxes.
        velocity_sigma: intrinsic one-sigma width [km/s].
    """
    reference = reference_instrument(grid)
    sigma = line_sigma(reference, centre, centre / grid.sampling, velocity_sigma)
    half = _half_window(grid, velocity_sigma)
    edges = np.append(grid.bounds[0], grid.bounds[1, -1])
    window = windows(edges, centre, sigma, half)
    shape = (len(centre), grid.size)
    row = np.arange(len(centre))[:, None, None]
    total = scattered(row, window.index, window.density * flux[..., None], shape)
    variance = window.density**2 * np.einsum("bkk->bk", covariance)[..., None]
    first, second = _close_pairs(grid, half)
    shared = window.density[:, first] * _on_windows_of(window, first, second)
    shared *= 2.0 * covariance[:, first, second, None]
    of_pairs = scattered(row, window.index[:, first], shared, shape)
    variance = scattered(row, window.index, variance, shape) + of_pairs
    return DrawnLines(total, np.maximum(variance, 0.0))


def _on_windows_of(window: PixelWindows, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(B, pairs, w) densities of the second lines on the pixels around the first ones."""
    count = window.density.shape[-1]
    shift = window.middle[:, second] - window.middle[:, first]
    place = np.arange(count) - shift[..., None]
    density = np.take_along_axis(window.density[:, second], np.clip(place, 0, count - 1), axis=-1)
    return density * ((place >= 0) & (place < count))


@lru_cache(maxsize=8)
def _half_window(grid: UnifiedGrid, velocity_sigma: float) -> int:
    """Pixels on either side of a line that it can reach."""
    width = grid.wavelength / grid.sampling
    sigma = line_sigma(reference_instrument(grid), grid.wavelength, width, velocity_sigma)
    return int(np.ceil(_REACH * (sigma / width).max())) + 1


@lru_cache(maxsize=8)
def _close_pairs(grid: UnifiedGrid, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Lines that can share pixels, the same at all redshifts: first and second of each pair."""
    pixel = np.log(load_lines().wavelength) * grid.sampling
    first, second = np.triu_indices(pixel.size, k=1)
    near = np.abs(pixel[first] - pixel[second]) <= 2 * half + 1
    return first[near], second[near]


VELOCITY_SIGMA = 50.0  # km/s, the median of the simulated galaxies' narrow lines


@dataclass(frozen=True, eq=False)
class DirectFit:
    """Fits of B prism spectra, fluxes in the unit of the spectra; NaN throughout without a redshift.

    Attributes:
        redshift: (B,) that was given.
        covered: (B, P) bool: pixels with data, or in a gap that the line-spread function bridges.
        line_flux, line_flux_error: (B, K) [flux unit x Angstrom], in the order of
            `data_pipeline.lines.load_lines`; NaN where not measured.
        line_in_range: (B, K) bool: inside the prism's range, and good pixels see the line.
        line_covariance: (B, K, K) of the line fluxes.
        continuum: (B, P), as the prism sees it; beyond the data and in gaps it is extrapolated.
        continuum_error: (B, P) one sigma.
        model: (B, P) continuum and lines.
        chi_square: (B,) per good pixel, as `kspecsr.results.consistency.prism_chi_square` gives it.
    """

    redshift: np.ndarray
    covered: np.ndarray
    line_flux: np.ndarray
    line_flux_error: np.ndarray
    line_in_range: np.ndarray
    line_covariance: np.ndarray
    continuum: np.ndarray
    continuum_error: np.ndarray
    model: np.ndarray
    chi_square: np.ndarray

    def __len__(self) -> int:
        return len(self.redshift)

    def on_grid(
        self, grid: UnifiedGrid, velocity_sigma: float = VELOCITY_SIGMA
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The super-resolved spectrum that this fit implies.

        The up-sampled continuum, and the lines as the reference instrument would see them. NaN where the
        prism has no data: in wide gaps, and beyond the first and last good pixel.

        Args:
            grid: unified grid, N pixels.
            velocity_sigma: intrinsic width of the lines [km/s].

        Returns:
            Flux, its one-sigma error, and the continuum, (B, N) each.
        """
        if not 0 <= velocity_sigma < np.inf:
            raise ValueError(f"on_grid: expected a velocity_sigma of 0 km/s or more, got {velocity_sigma}")
        upsampling, column, inside = _to_grid(grid)
        continuum = (upsampling @ self.continuum.T).T
        variance = (abs(upsampling) @ self.continuum_error.T).T ** 2
        centre = load_lines().wavelength * (1.0 + self.redshift[:, None])
        drawn = draw_lines(
            grid,
            np.where(self.line_in_range, centre, grid.start),
            np.where(self.line_in_range, self.line_flux, 0.0),
            np.where(np.isnan(self.line_covariance), 0.0, self.line_covariance),
            velocity_sigma,
        )
        dark = ~(self.covered[:, column] & inside) | np.isnan(self.redshift)[:, None]
        flux, error = continuum + drawn.flux, np.sqrt(variance + drawn.variance)
        return tuple(np.where(dark, np.nan, array) for array in (flux, error, continuum))


@lru_cache(maxsize=4)
def _to_grid(grid: UnifiedGrid) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """(N, P) four-point cubic interpolation; prism pixel of each grid pixel, and whether it has one."""
    prism, wavelength = load_instrument(PRISM), grid.wavelength
    last = prism.wavelength.size - 1
    place = np.interp(wavelength, prism.wavelength, np.arange(last + 1.0))
    left = np.minimum(place.astype(int), last - 1)
    t = place - left
    weights = (
        0.5 * (-t + 2 * t**2 - t**3),
        0.5 * (2 - 5 * t**2 + 3 * t**3),
        0.5 * (t + 4 * t**2 - 3 * t**3),
        0.5 * (-(t**2) + t**3),
    )
    columns = np.concatenate([np.clip(left + k, 0, last) for k in (-1, 0, 1, 2)])
    rows = np.tile(np.arange(wavelength.size), 4)
    matrix = sparse.csr_matrix((np.concatenate(weights), (rows, columns)), shape=(wavelength.size, last + 1))
    column = np.clip(np.searchsorted(prism.bounds[0], wavelength, "right") - 1, 0, last)
    inside = (wavelength >= prism.bounds[0, 0]) & (wavelength <= prism.bounds[1, -1])
    return matrix, column, inside
