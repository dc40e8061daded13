"""Fitted lines as the reference instrument would see them, with the error of their sum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data_pipeline.instrument import reference_instrument
from data_pipeline.lines import load_lines
from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.linefit.profiles import PixelWindows, line_sigma, scattered, windows

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
