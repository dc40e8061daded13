"""What the prism's noise allows the flux of an isolated, unresolved line."""

from __future__ import annotations

import numpy as np

from data_pipeline.instrument import ANGSTROM_PER_UM, PRISM, load_instrument
from data_pipeline.instrument.prism_pixels import LINE_FWHM
from data_pipeline.lines import load_lines


def line_signal_to_noise(
    prism_error: np.ndarray,
    prism_mask: np.ndarray,
    line_flux: np.ndarray,
    line_known: np.ndarray,
    redshift: np.ndarray,
) -> np.ndarray:
    """Flux over the matched-filter error of an unresolved line, 3 prism pixels wide, in white noise.

    Args:
        prism_error: (B, P) one sigma, flux density.
        prism_mask: (B, P) bool, True = bad.
        line_flux: (B, K) flux density x Angstrom.
        line_known: (B, K) bool.
        redshift: (B,), NaN where there is none.

    Returns:
        (B, K); 0 where the flux is unknown or the line's pixel is bad.
    """
    prism = load_instrument(PRISM)
    width = np.diff(prism.bounds, axis=0)[0] * ANGSTROM_PER_UM  # Angstrom
    centre = load_lines().wavelength * (1.0 + np.asarray(redshift, float)[:, None])
    known = np.asarray(line_known).astype(bool) & np.isfinite(centre)
    pixel = np.searchsorted(prism.wavelength, np.where(known, centre, prism.wavelength[0]))
    pixel = np.clip(pixel, 0, prism.wavelength.size - 1)
    error = np.take_along_axis(np.asarray(prism_error, dtype=float), pixel, axis=1)
    bad = np.take_along_axis(np.asarray(prism_mask).astype(bool), pixel, axis=1)
    sigma = LINE_FWHM / np.sqrt(8.0 * np.log(2.0))  # pixels
    noise = error * width[pixel] * np.sqrt(2.0 * np.sqrt(np.pi) * sigma)
    return np.where(known & ~bad, np.asarray(line_flux, dtype=float) / noise, 0.0)
