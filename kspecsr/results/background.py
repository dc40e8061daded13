"""Continua that an over-subtracted background has made negative."""

import numpy as np
from scipy.ndimage import gaussian_filter1d, median_filter

# Twice as wide as the broadest unresolved blend of lines (Halpha with [N II] and [S II]: 30 pixels)
_WINDOW = 61  # pixels
# A window's median has 1.25 times the error of its mean, and released pixels are correlated (1.5)
_MEDIAN_ERROR = 1.25 * 1.5 / _WINDOW**0.5
# 2 sigma per pixel: less costs lines less than their errors, and noise alone never gets there
_SIGNIFICANT = 8.0


def background_deficit(flux: np.ndarray, error: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What a spectrum lacks to a continuum that is not clearly negative.

    No galaxy has negative light, and the networks put out none: where the continuum is negative, they lose
    lines. The deficit is smooth, so that lines keep their fluxes when it is added.

    Args:
        flux: (P,) flux density, in any unit.
        error: (P,) one sigma.
        mask: (P,) bool, True = bad.

    Returns:
        (P,) to be added to the flux, not negative; 0 where the running median is above -8 times its error.
    """
    nothing = np.zeros(flux.shape)
    good = np.flatnonzero(~mask)
    if good.size < _WINDOW:
        return nothing
    ratio = np.where(mask, 0.0, flux / np.where(mask, 1.0, error))
    if np.convolve(ratio, np.ones(_WINDOW), "same").min() > -_SIGNIFICANT * _WINDOW**0.5:
        return nothing  # a hundred times quicker than the median, and true of nearly every spectrum
    pixels = np.arange(flux.size)
    bridged = np.interp(pixels, good, flux[good])
    level = gaussian_filter1d(median_filter(bridged, _WINDOW, mode="nearest"), _WINDOW / 6, mode="nearest")
    sigma = median_filter(np.interp(pixels, good, error[good]), _WINDOW, mode="nearest") * _MEDIAN_ERROR
    # from nothing at 8 errors to all of it at 16, without a step that could pass for a feature
    share = np.clip(-level / (_SIGNIFICANT * sigma) - 1.0, 0.0, 1.0)
    return np.where(mask, 0.0, -level * share)
