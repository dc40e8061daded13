"""Result of a direct line fit, and the super-resolved spectrum that it implies."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse

from data_pipeline.instrument import PRISM, load_instrument, reference_instrument
from data_pipeline.lines import list_of
from data_pipeline.lines.profile import line_sigma, line_windows, scattered
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.resampling import cubic_interpolation

_REACH = 5.0  # sigma on either side: 6e-7 of the flux lies beyond


def draw_lines(
    grid: UnifiedGrid, centre: np.ndarray, flux: np.ndarray, covariance: np.ndarray, velocity_sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draws lines as Gaussians integrated over the pixels: their sum and its variance, (B, N) each.

    Centres (B, K) [um] may be anything where flux (B, K) [flux density x Angstrom] and the fluxes' covariance
    (B, K, K) are 0; ``velocity_sigma`` is the intrinsic width [km/s].
    """
    reference = reference_instrument(grid)
    sigma = line_sigma(reference, centre, velocity_sigma)
    half = _half_window(grid, velocity_sigma)
    at = reference.pixel_of(centre)[0] - half
    index, density = line_windows(grid.bounds, centre, sigma, at, 2 * half + 1)
    shape = (len(centre), grid.size)
    row = np.arange(len(centre))[:, None, None]
    total = scattered(row, index, density * flux[..., None], shape)
    variance = density**2 * np.einsum("bkk->bk", covariance)[..., None]
    first, second = _close_pairs(grid, half, flux.shape[1])
    # density of the second line of each pair on the pixels around the first
    place = np.arange(2 * half + 1) - (at[:, second] - at[:, first])[..., None]
    other = np.take_along_axis(density[:, second], np.clip(place, 0, 2 * half), axis=-1)
    shared = density[:, first] * other * ((place >= 0) & (place <= 2 * half))
    shared *= 2.0 * covariance[:, first, second, None]
    of_pairs = scattered(row, index[:, first], shared, shape)
    variance = scattered(row, index, variance, shape) + of_pairs
    return total, np.maximum(variance, 0.0)


@lru_cache(maxsize=8)
def _half_window(grid: UnifiedGrid, velocity_sigma: float) -> int:
    """Pixels on either side of a line that it can reach."""
    width = grid.wavelength / grid.sampling
    sigma = line_sigma(reference_instrument(grid), grid.wavelength, velocity_sigma, width)
    return int(np.ceil(_REACH * (sigma / width).max())) + 1


@lru_cache(maxsize=8)
def _close_pairs(grid: UnifiedGrid, half: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of lines that can share pixels at any redshift, of a list that has ``count``: both indices."""
    pixel = np.log(list_of(count).wavelength) * grid.sampling
    first, second = np.triu_indices(pixel.size, k=1)
    near = np.abs(pixel[first] - pixel[second]) <= 2 * half + 1
    return first[near], second[near]


_BRIDGED = 1.8  # bad detector pixels in a row that the line-spread function bridges: its FWHM


def covered_pixels(good: np.ndarray, step: float) -> np.ndarray:
    """(B, P) bool: pixels, ``step`` detector pixels wide, that are good or in a gap that is bridged."""
    place = np.arange(good.shape[1])
    before = np.maximum.accumulate(np.where(good, place, -1), axis=1)
    after = np.minimum.accumulate(np.where(good, place, good.shape[1])[:, ::-1], axis=1)[:, ::-1]
    inside = (before >= 0) & (after < good.shape[1])
    return inside & (after - before - 1 <= round(_BRIDGED / step))


VELOCITY_SIGMA = 50.0  # km/s, the median of the simulated galaxies' narrow lines


@dataclass(frozen=True, eq=False)
class DirectFit:
    """Fits of B prism spectra, fluxes in the unit of the spectra; NaN throughout without a redshift.

    Attributes:
        wavelength: (P,) pixel centres [um].
        redshift: (B,) known redshifts.
        covered: (B, P) bool: pixels with data, or in a gap that the line-spread function bridges.
        line_flux, line_flux_error: (B, K) [flux unit x Angstrom], in the order of
            `data_pipeline.lines.list_of`; NaN where not measured.
        line_in_range: (B, K) bool: inside the prism's range, and good pixels see the line.
        line_covariance: (B, K, K) of the line fluxes.
        continuum: (B, P), as the prism sees it; beyond the data and in gaps it is extrapolated.
        continuum_error: (B, P) one sigma.
        model: (B, P) continuum and lines.
        chi_square: (B,) per good pixel, as `kspecsr.results.prism_input.prism_chi_square` gives it: over the
            variance that a pixel of this size has.
    """

    wavelength: np.ndarray
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
        upsampling, column, inside = _to_grid(grid, self.wavelength.tobytes())
        continuum = (upsampling @ self.continuum.T).T
        variance = (abs(upsampling) @ self.continuum_error.T).T ** 2
        centre = list_of(self.line_flux.shape[1]).wavelength * (1.0 + self.redshift[:, None])
        lines, line_variance = draw_lines(
            grid,
            np.where(self.line_in_range, centre, grid.start),
            np.where(self.line_in_range, self.line_flux, 0.0),
            np.where(np.isnan(self.line_covariance), 0.0, self.line_covariance),
            velocity_sigma,
        )
        dark = ~(self.covered[:, column] & inside) | np.isnan(self.redshift)[:, None]
        flux, error = continuum + lines, np.sqrt(variance + line_variance)
        return tuple(np.where(dark, np.nan, array) for array in (flux, error, continuum))


@lru_cache(maxsize=4)
def _to_grid(grid: UnifiedGrid, wavelength: bytes) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """(N, P) cubic interpolation; prism pixel of each grid pixel, and whether it has one."""
    prism = load_instrument(PRISM).with_pixels(np.frombuffer(wavelength))
    matrix = cubic_interpolation(prism.position(grid.wavelength), prism.wavelength.size)
    return matrix, *prism.pixel_of(grid.wavelength)
