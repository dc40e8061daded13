"""Emission lines as pixel-integrated Gaussians."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from data_pipeline.instrument import Instrument

SPEED_OF_LIGHT = 299_792.458  # km/s
_REACH = 6.0  # sigma on either side: 2e-9 of the flux lies beyond


def render_lines(
    instrument: Instrument,
    centre: np.ndarray,
    flux: np.ndarray,
    velocity_sigma: np.ndarray,
    resolution_scale: np.ndarray | float = 1.0,
    row: np.ndarray | None = None,
    rows: int | None = None,
) -> np.ndarray:
    """Flux density of unblended or blended lines on an instrument's pixels.

    Each line is a Gaussian of variance ``sigma_lsf^2 - w^2 / 12 + sigma_v^2`` integrated over the pixels:
    ``sigma_lsf`` includes the pixel, whose own variance ``w^2 / 12`` the integration puts back.

    Args:
        instrument: pixels and line-spread function.
        centre: (n,) observed wavelengths [um].
        flux: (n,) line fluxes [erg/s/cm2].
        velocity_sigma: (n,) intrinsic one-sigma widths [km/s].
        resolution_scale: (n,) or one factor on the instrument's resolving power.
        row: (n,) spectrum to which each line belongs; all to one when left out.
        rows: number of spectra.

    Returns:
        (rows, pixels) flux density [erg/s/cm2/A].
    """
    centre, flux = np.asarray(centre, float), np.asarray(flux, float)
    row = np.zeros(centre.size, np.int64) if row is None else np.asarray(row)
    rows = (int(row.max()) + 1 if row.size else 1) if rows is None else rows
    lower, upper = instrument.bounds
    n_pixel = lower.size
    out = np.zeros(rows * n_pixel)

    pixel = np.clip(np.searchsorted(upper, centre), 0, n_pixel - 1)
    width = upper[pixel] - lower[pixel]
    lsf = (instrument.sigma(centre) / resolution_scale) ** 2 - width**2 / 12.0
    variance = np.maximum(lsf, 1e-4 * width**2) + (velocity_sigma / SPEED_OF_LIGHT * centre) ** 2
    sigma = np.sqrt(variance)
    first = np.searchsorted(upper, centre - _REACH * sigma)
    last = np.searchsorted(lower, centre + _REACH * sigma)  # one past
    count = np.where(flux != 0, np.maximum(last - first, 0), 0)

    # Lines of similar extent are computed together, so that one broad line does not widen all windows.
    for low, high in ((0, 16), (16, 32), (32, 128), (128, n_pixel)):
        chosen = np.flatnonzero((count > low) & (count <= high))
        if chosen.size == 0:
            continue
        span = int(count[chosen].max())
        index = first[chosen, None] + np.arange(span)
        inside = index < last[chosen, None]
        index = np.minimum(index, n_pixel - 1)
        above = (upper[index] - centre[chosen, None]) / sigma[chosen, None]
        below = (lower[index] - centre[chosen, None]) / sigma[chosen, None]
        density = (ndtr(above) - ndtr(below)) / ((upper - lower)[index] * 1e4)  # per Angstrom
        density *= flux[chosen, None] * inside
        where = row[chosen, None] * n_pixel + index
        out += np.bincount(where.ravel(), density.ravel(), minlength=out.size)
    return out.reshape(rows, n_pixel)
