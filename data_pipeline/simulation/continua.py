"""Continua: mixtures of templates under dust, tilted and absorbed by the intergalactic medium."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.simulation.dust import calzetti
from data_pipeline.simulation.templates import NAMES, templates_on

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


# Continua are made on this grid, which outreaches every instrument, and brought to the others by their
# line-spread operators.
INTRINSIC_GRID = UnifiedGrid(start=0.55, stop=5.65, sampling=3000.0)
TEMPLATES = NAMES


@dataclass(frozen=True)
class Continua:
    """Parameters of b continua.

    Attributes:
        level: (b,) observed flux density at 0.505 um rest [erg/s/cm2/A].
        weights: (b, K) shares of the templates at 0.505 um rest, in the order of `TEMPLATES`.
        reddening: (b,) E(B-V) of the stars [mag].
        tilt: (b,) exponent of an extra power law in wavelength.
        column: (b,) log10 neutral hydrogen column at the galaxy [cm-2].
    """

    level: np.ndarray
    weights: np.ndarray
    reddening: np.ndarray
    tilt: np.ndarray
    column: np.ndarray


def intrinsic_continua(continua: Continua, redshift: np.ndarray) -> np.ndarray:
    """(b, n) flux density on `INTRINSIC_GRID` [erg/s/cm2/A], pixel means, no line-spread function."""
    grid = INTRINSIC_GRID
    bounds = grid.bounds
    edges = np.append(bounds[0], bounds[1, -1])
    out = np.zeros((redshift.size, grid.size))
    shining = np.flatnonzero(continua.level > 0)
    for row in shining:
        out[row] = continua.weights[row] @ templates_on(edges, grid.sampling, float(redshift[row]))
    if shining.size:
        rest = grid.wavelength / (1.0 + redshift[shining, None])
        # Nebular light and stars share one screen; normalised at 0.505 um so that `level` stays the level.
        depth = 0.4 * np.log(10.0) * continua.reddening[shining, None] * (calzetti(rest) - calzetti(0.505))
        shape = np.exp(continua.tilt[shining, None] * np.log(rest / 0.505) - depth)
        out[shining] *= shape * continua.level[shining, None]
        out[shining] *= transmission(bounds, redshift[shining], continua.column[shining])
    return out
