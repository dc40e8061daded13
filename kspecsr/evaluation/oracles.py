"""What the data allow: the truth itself, drawn where an inferred redshift puts it.

A spectrum that is perfect but for its redshift still has its lines beside their places. What such a spectrum
scores is a limit that no method with that redshift passes, and with the redshift of the Cramér-Rao bound one
that no method passes at all.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.interpolate import CubicSpline

from data_pipeline.instrument import PRISM, load_instrument, reference_instrument
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.simulation import Nuisances
from data_pipeline.simulation.noise import DETECTOR_PIXELS_PER_PIXEL
from kspecsr.evaluation.held_out import HeldOut
from kspecsr.evaluation.reconstruction import Reconstruction

_FARTHEST = 0.01  # of 1 + z: beyond, no line is drawn where one belongs, and nothing is moved
_SMALL = 1e-30


def truth_at(held_out: HeldOut, redshift: np.ndarray) -> Reconstruction:
    """The truth moved to redshifts that are about right; where they are not, its continuum alone.

    Args:
        held_out: galaxies.
        redshift: (B,).
    """
    true = held_out.redshift
    right = np.isfinite(true) & np.isfinite(redshift)
    right &= np.abs(redshift - true) <= _FARTHEST * (1.0 + np.where(right, true, 0.0))
    moved = np.log((1.0 + np.where(right, redshift, 0.0)) / (1.0 + np.where(right, true, 0.0)))
    pixels = np.arange(held_out.grid.size, dtype=float)
    lost = held_out.target_continuum.astype(float)
    flux = np.where(right[:, None], held_out.target_flux, lost).astype(float)
    for row in np.flatnonzero(right & (moved != 0)):
        place = np.clip(pixels - moved[row] * held_out.grid.sampling, 0.0, pixels[-1])
        flux[row] = CubicSpline(pixels, flux[row])(place)
    return Reconstruction(flux=np.where(held_out.target_mask, np.nan, flux), redshift=np.asarray(redshift))


def redshift_bound(held_out: HeldOut) -> np.ndarray:
    """(B,) Cramér-Rao bound of dz / (1 + z): one sigma, everything else about the galaxy known.

    From how the noise-free prism spectrum changes as it is shifted in log wavelength, with the prism's noise
    and its unknown zero point, a shift in pixels whose scatter is the simulator's (facts, section 6). What
    else is unknown (continuum, line ratios, line-spread function) could only make it larger.

    Args:
        held_out: galaxies with noise-free targets.

    Returns:
        NaN where there is no redshift or nothing is seen.
    """
    matrix, interior = _degradation(held_out.grid)
    truth = np.where(held_out.target_mask, 0.0, held_out.target_flux).astype(float)
    by_redshift = (matrix @ (np.gradient(truth, axis=1) * held_out.grid.sampling).T).T
    by_zero_point = np.gradient((matrix @ truth.T).T, axis=1)
    # released pixels are interpolated: they hold as much as their detector pixels
    weight = DETECTOR_PIXELS_PER_PIXEL * (~held_out.prism_mask & interior) / held_out.prism_error**2.0
    redshift, both, zero_point = (
        (weight * first * second).sum(axis=1)
        for first, second in (
            (by_redshift, by_redshift),
            (by_redshift, by_zero_point),
            (by_zero_point, by_zero_point),
        )
    )
    information = redshift - both**2 / (zero_point + 1.0 / Nuisances().zero_point_shift ** 2)
    seen = (information > _SMALL) & np.isfinite(held_out.redshift)
    return np.where(seen, 1.0 / np.sqrt(np.where(seen, information, 1.0)), np.nan)


def bounded_redshift(held_out: HeldOut) -> np.ndarray:
    """(B,) the true redshift, off by a normal number of the width of `redshift_bound`; always the same."""
    bound = np.where(np.isfinite(held_out.redshift), redshift_bound(held_out), np.nan)
    off = [np.random.default_rng(int(number)).normal() for number in held_out.galaxy]
    return np.expm1(np.log1p(held_out.redshift) + bound * np.array(off))


@lru_cache(maxsize=4)
def _degradation(grid: UnifiedGrid):
    prism = load_instrument(PRISM, scale=Nuisances().prism_resolution_scale)
    operator = prism.line_spread_operator(grid.bounds, seen_by=reference_instrument(grid))
    return operator.matrix, operator.interior
