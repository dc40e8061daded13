"""Continua: mixtures of templates under dust, tilted and absorbed by the intergalactic medium."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.simulation.dust import calzetti
from data_pipeline.simulation.igm import transmission
from data_pipeline.simulation.templates import NAMES, templates_on

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
