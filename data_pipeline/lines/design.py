"""What a line fit is made of besides the line profiles: ties, continuum, breaks (NumPy only)."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from data_pipeline.lines import LineList

BREAKS = (0.121567, 0.3646, 0.4000)  # um, rest: Lyman alpha, Balmer and 4000 Angstrom breaks
_FROM_THE_END = 5  # pixels: a break nearer to an end is not told from the continuum


def tied_lines(lines: LineList) -> np.ndarray:
    """(K, K') fluxes of all lines per flux of the free ones: weaker partners follow the stronger lines."""
    partners = {name for name in lines.partner if name}
    free = [k for k, name in enumerate(lines.names) if name not in partners]
    tie = np.zeros((len(lines), len(free)))
    for column, k in enumerate(free):
        tie[k, column] = 1.0
        if lines.partner[k]:
            tie[lines.index(lines.partner[k]), column] = 1.0 / lines.ratio[k]
    return tie


def continuum_knots(pixels: int, knots: int) -> np.ndarray:
    """(knots, pixels) hat functions, evenly spaced in prism pixels."""
    place = np.linspace(0.0, pixels - 1.0, knots)
    width = place[1] - place[0]
    return np.clip(1.0 - np.abs(np.arange(pixels) - place[:, None]) / width, 0.0, None)


def break_steps(wavelength: np.ndarray, centre: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Steps at the breaks as the prism sees them.

    Args:
        wavelength: (P,) pixel centres [um].
        centre: (B, breaks) observed wavelengths [um].
        sigma: (B, breaks) widths of the line-spread function there [um].

    Returns:
        (B, breaks, P); 0 throughout for a break outside the range.
    """
    step = ndtr((wavelength - centre[..., None]) / sigma[..., None])
    inside = (centre > wavelength[_FROM_THE_END]) & (centre < wavelength[-1 - _FROM_THE_END])
    return step * inside[..., None]
