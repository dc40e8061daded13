"""Transmission of the intergalactic medium and of neutral gas around the galaxy."""

from __future__ import annotations

import numpy as np

# Lyman-alpha to Lyman-delta: wavelength [um] and the coefficients of Inoue et al. (2014), their table 2.
_LINES = (
    (0.121567, (1.690e-2, 2.354e-3, 1.026e-4)),
    (0.102572, (4.692e-3, 6.536e-4, 2.849e-5)),
    (0.097254, (2.239e-3, 3.119e-4, 1.360e-5)),
    (0.094974, (1.319e-3, 1.837e-4, 8.010e-6)),
)
_LYMAN_LIMIT = 0.09118


def transmission(bounds: np.ndarray, redshift: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Mean transmission per pixel, with each edge shared out within its pixel.

    Args:
        bounds: (2, n) observed pixel bounds [um].
        redshift: (b,).
        column: (b,) log10 of the neutral hydrogen column at the galaxy [cm-2], for the damping wing.

    Returns:
        (b, n) values in [0, 1].
    """
    lower, upper = bounds
    centre = 0.5 * (lower + upper)
    out = np.ones((redshift.size, centre.size))
    for row in np.flatnonzero(0.1216 * (1 + redshift) * 1.4 > lower[0]):
        scale = 1.0 + redshift[row]
        last = np.searchsorted(lower, 0.121567 * scale * 1.4)
        x, low, high = centre[:last], lower[:last], upper[:last]
        depth = np.zeros(last)
        through = np.ones(last)
        for line, (a, b, c) in _LINES:
            ratio = x / line
            tau = np.select([ratio < 2.2, ratio < 5.7], [a * ratio**1.2, b * ratio**3.7], c * ratio**5.5)
            below = np.clip((line * scale - low) / (high - low), 0.0, 1.0)
            through *= 1.0 - below * (1.0 - np.exp(-tau))
        beyond = np.clip((_LYMAN_LIMIT * scale - low) / (high - low), 0.0, 1.0)
        # The Lyman continuum is opaque at every redshift at which the prism sees it.
        through *= 1.0 - beyond
        # Lorentz wing of Lyman-alpha: cross-section 4.26e-20 cm2 / (offset / Angstrom)^2.
        offset = np.hypot((x / scale - 0.121567) * 1e4, 1.0)
        depth = 4.26e-20 * 10.0 ** column[row] / offset**2
        out[row, :last] = through * np.exp(-depth)
    return out
