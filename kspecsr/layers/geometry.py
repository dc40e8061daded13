"""Pixel geometry that several layers share, computed from the instrument tables by plain arguments."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import sparse

from data_pipeline.instrument import PRISM, degrading_operator, load_instrument, reference_instrument
from data_pipeline.lines.profile import line_sigma
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.resampling import cubic_interpolation

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
    return {
        "start": float(log[0]),
        "step": float(log[1] - log[0]),
        "pixel": prism.position(wavelength),
        "prism_sigma": line_sigma(prism, wavelength, 0.0),
        "reference_sigma": line_sigma(reference, wavelength, 0.0, pixel=wavelength / grid[2]),
    }


@lru_cache(maxsize=8)
def upsampling_matrix(grid: Grid) -> sparse.csr_matrix:
    """(N, P) four-point cubic interpolation from prism pixels to the unified grid; ends are held."""
    place = load_instrument(PRISM).position(unified_grid(grid).wavelength)
    return cubic_interpolation(place, prism_wavelength().size)


@lru_cache(maxsize=8)
def degradation_matrix(grid: Grid, scale: float) -> tuple[sparse.csr_matrix, np.ndarray]:
    """(P, N) from the unified grid, as the reference sees it, to what the prism sees; and its interior.

    Args:
        grid: unified grid.
        scale: factor on the tabulated prism resolving power.
    """
    operator = degrading_operator(unified_grid(grid), scale)
    return operator.matrix, operator.interior
