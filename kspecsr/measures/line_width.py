"""Widths and fluxes of bright lines that stand alone, by the same fit in output and truth."""

from __future__ import annotations

import numpy as np

from data_pipeline.lines.gaussian_fit import fit_gaussians
from kspecsr.measures.spectrum import Comparison

BRIGHT_SNR = 10.0  # in the prism
_HALF = 20  # pixels of the window on either side
_NARROWEST = 0.4  # pixels (one sigma); the broadest that is fitted is half of the window's half
_FARTHEST = 4.0  # pixels of the fitted centre from the expected one
_NEIGHBOUR = 26.0  # pixels within which no other line ...
_FAINT = 0.03  # ... has more than this part of the flux
_BROADEST = 8.0  # pixels (one sigma) of a line of the truth: beyond, the window is too short
_LEAST = 0.05  # part of the true flux below which the line counts as lost
_COVERED = 0.8


def measure_line_width(comparison: Comparison) -> dict[str, np.ndarray]:
    """Output over truth for isolated lines of prism S/N > 10: a Gaussian on a straight line fits both.

    The window bounds the width: for lines as broad as in the prism both ratios are lower limits.

    Returns:
        ``line_width_ratio`` (B, K): FWHM over the true one; NaN where not measured, or lost.
        ``line_area_ratio`` (B, K): flux over the true one; NaN where not measured, 0 where no line is found.
    """
    row, line = np.nonzero(_isolated(comparison))
    index, offset, used, row, line = _windows(comparison, row, line)
    width = np.full(comparison.line_snr.shape, np.nan, np.float32)
    area = width.copy()
    if row.size:
        at = row[:, None], index
        values = np.concatenate([comparison.truth[at], comparison.output[at]])
        same = np.ones(len(values))
        widest = 0.5 * np.abs(offset).max()
        fits = fit_gaussians(
            np.tile(offset, (2, 1)),
            values,
            np.tile(used, (2, 1)),
            centre=0.0 * same,
            reach=_FARTHEST * same,
            sigma_limits=(_NARROWEST * same, widest * same),
        )
        (true_area, out_area), (true_sigma, out_sigma) = np.split(fits.area, 2), np.split(fits.sigma, 2)
        sane = (true_area > 0) & (true_sigma < _BROADEST) & (true_sigma > _NARROWEST)
        ratio = out_area / np.where(sane, true_area, 1.0)
        found = (ratio > _LEAST) & (out_sigma > _NARROWEST)
        area[row, line] = np.where(sane, np.where(found, ratio, 0.0), np.nan)
        width[row, line] = np.where(sane & found, out_sigma / true_sigma, np.nan)
    return {"line_width_ratio": width, "line_area_ratio": area}


def _isolated(comparison: Comparison) -> np.ndarray:
    """(B, K) bool."""
    bright = (comparison.line_snr > BRIGHT_SNR) & (comparison.line_flux > 0)
    row, line = np.nonzero(bright)
    apart = np.abs(comparison.places.pixel[row] - comparison.places.pixel[row, line][:, None])
    rival = comparison.line_flux[row] > _FAINT * comparison.line_flux[row, line][:, None]
    rival &= (apart < _NEIGHBOUR) & comparison.places.known[row]
    rival[np.arange(row.size), line] = False
    isolated = np.zeros(bright.shape, bool)
    isolated[row, line] = ~rival.any(axis=1)
    return isolated


def _windows(comparison: Comparison, row: np.ndarray, line: np.ndarray) -> tuple[np.ndarray, ...]:
    """Pixels (n, w), their offset from the centre, which are good; rows and lines whose window is covered."""
    centre = comparison.places.pixel[row, line]
    index = np.rint(centre).astype(np.int64)[:, None] + np.arange(-_HALF, _HALF + 1)
    inside = (index >= 0) & (index < comparison.places.grid.size)
    clipped = np.clip(index, 0, comparison.places.grid.size - 1)
    used = inside & comparison.good[row[:, None], clipped]
    offset = index - centre[:, None]
    core = np.abs(offset) <= comparison.places.fwhm[row, line][:, None]
    keep = (used.mean(axis=1) >= _COVERED) & (used | ~core).all(axis=1)
    return clipped[keep], offset[keep], used[keep], row[keep], line[keep]
