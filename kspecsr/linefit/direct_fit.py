"""What a direct line fit found, and the sharp spectrum that it implies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.linefit.sharp_lines import draw_lines

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
        chi_square: (B,) per good pixel, as `kspecsr.consistency.prism_chi_square` gives it.
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
