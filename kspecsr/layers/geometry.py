"""Pixel geometry that several layers share, computed from the instrument tables by plain arguments."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import sparse

from data_pipeline.instrument import PRISM, load_instrument, reference_instrument
from data_pipeline.pixel_grid import UnifiedGrid

# Factor on the tabulated prism resolving power that reduced JADES spectra show (facts, section 5).
PRISM_RESOLUTION_SCALE = load_instrument(PRISM).scale
Grid = tuple[float, float, float]  # start [um], stop [um], sampling: a `UnifiedGrid` as plain numbers

_LOOKUP = (0.30, 7.0, 8192)  # um, um, nodes of the logarithmic look-up of pixel and width


def plain_grid(grid: UnifiedGrid) -> Grid:
    """The grid as the arguments that layers keep in their configuration."""
    return (grid.start, grid.stop, grid.sampling)


@lru_cache(maxsize=8)
def unified_grid(grid: Grid) -> UnifiedGrid:
    """The grid back from plain numbers."""
    return UnifiedGrid(*grid)


@lru_cache(maxsize=1)
def prism_wavelength() -> np.ndarray:
    """(P,) centres of the prism's pixels [um]."""
    return load_instrument(PRISM).wavelength


@lru_cache(maxsize=1)
def prism_edges() -> np.ndarray:
    """(P + 1,) edges of the prism's pixels [um]; neighbours share theirs."""
    lower, upper = load_instrument(PRISM).bounds
    return np.append(lower, upper[-1])


def prism_position(wavelength: np.ndarray) -> np.ndarray:
    """Fractional pixel of the prism at ``wavelength`` [um], going on linearly beyond both ends."""
    centre = prism_wavelength()
    pixel = np.interp(wavelength, centre, np.arange(centre.size))
    below = (wavelength - centre[0]) / (centre[1] - centre[0])
    above = centre.size - 1 + (wavelength - centre[-1]) / (centre[-1] - centre[-2])
    return np.where(wavelength < centre[0], below, np.where(wavelength > centre[-1], above, pixel))


@lru_cache(maxsize=8)
def position_lookup(grid: Grid) -> dict[str, np.ndarray | float]:
    """Tables over log wavelength: prism pixel, sigma of the prism, sigma of the reference instrument.

    Returns:
        ``start`` and ``step`` of the natural logarithm of the wavelength [um], and three arrays of the
        values at the nodes: ``pixel``, ``prism_sigma`` and ``reference_sigma`` [um], the pixel's own width
        taken off both.
    """
    low, high, nodes = _LOOKUP
    log = np.linspace(np.log(low), np.log(high), nodes)
    wavelength = np.exp(log)
    prism, reference = load_instrument(PRISM), reference_instrument(unified_grid(grid))
    pixel = prism_position(wavelength)
    width = np.interp(wavelength, prism.wavelength, np.diff(prism.bounds, axis=0)[0])
    prism_variance = np.maximum(prism.sigma(wavelength) ** 2 - width**2 / 12, 1e-4 * width**2)
    width = wavelength / grid[2]
    reference_variance = np.maximum(reference.sigma(wavelength) ** 2 - width**2 / 12, 1e-4 * width**2)
    return {
        "start": float(log[0]),
        "step": float(log[1] - log[0]),
        "pixel": pixel,
        "prism_sigma": np.sqrt(prism_variance),
        "reference_sigma": np.sqrt(reference_variance),
    }


@lru_cache(maxsize=8)
def upsampling_matrix(grid: Grid) -> sparse.csr_matrix:
    """(N, P) four-point cubic interpolation from prism pixels to the unified grid; ends are held."""
    n_prism = prism_wavelength().size
    place = np.clip(prism_position(unified_grid(grid).wavelength), 0, n_prism - 1)
    left = np.minimum(place.astype(int), n_prism - 2)
    t = place - left
    weights = (
        0.5 * (-t + 2 * t**2 - t**3),
        0.5 * (2 - 5 * t**2 + 3 * t**3),
        0.5 * (t + 4 * t**2 - 3 * t**3),
        0.5 * (-(t**2) + t**3),
    )
    row = np.arange(place.size)
    columns = [np.clip(left + k, 0, n_prism - 1) for k in (-1, 0, 1, 2)]
    return sparse.csr_matrix(
        (np.concatenate(weights), (np.tile(row, 4), np.concatenate(columns))), shape=(place.size, n_prism)
    )


@lru_cache(maxsize=8)
def degradation_matrix(grid: Grid, scale: float) -> tuple[sparse.csr_matrix, np.ndarray]:
    """(P, N) from the unified grid, as the reference sees it, to what the prism sees; and its interior.

    Args:
        grid: unified grid.
        scale: factor on the tabulated prism resolving power.
    """
    prism = load_instrument(PRISM, scale=scale)
    unified = unified_grid(grid)
    operator = prism.line_spread_operator(unified.bounds, seen_by=reference_instrument(unified))
    return operator.matrix, operator.interior
