"""Held-out galaxies and methods with known faults, for tests of calibration, redshifts and consistency."""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.evaluation.sources import SURVEY, SimulatedHeldOut
from kspecsr.evaluation.store import COLUMNS
from kspecsr.measures.held_out import Reconstruction

GRID = UnifiedGrid()
# the survey without what a method cannot know: right errors, resolution and zero point
PLAIN = replace(SURVEY, resolution_scatter=0.0, zero_point_shift=0.0, error_scatter=0.0)


@lru_cache(maxsize=4)
def galaxies(chunk=0, size=96, feed=PLAIN):
    """Galaxies of the survey with lines, noise-free targets."""
    return SimulatedHeldOut(GRID, seed=11, feed=feed, chunk_size=size).chunk(chunk)


def columns(held_out):
    """The small columns that summaries take."""
    return {name: getattr(held_out, name) for name in COLUMNS}


def noisy(held_out, stated=1.0, bias=0.0, noise=1.0, seed=5):
    """The truth with normal noise on pixels and lines.

    Args:
        held_out: galaxies.
        stated: stated over true error.
        bias: in true errors.
        noise: of pixels in units of the median prism error, of lines in units of that which the prism allows.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    sigma = (
        noise * np.median(held_out.prism_error, axis=1, keepdims=True) * np.ones(held_out.target_flux.shape)
    )
    line = noise * np.where(
        held_out.line_snr > 0, held_out.line_flux / np.maximum(held_out.line_snr, 1e-9), 1.0
    )
    return Reconstruction(
        flux=held_out.target_flux + sigma * (rng.standard_normal(sigma.shape) + bias),
        error=stated * sigma,
        line_flux=held_out.line_flux + line * (rng.standard_normal(line.shape) + bias),
        line_flux_error=stated * line,
    )


def empty(held_out):
    """The same galaxies without a good pixel, line or redshift."""
    return replace(
        held_out,
        prism_mask=np.ones_like(held_out.prism_mask),
        prism_flux=np.zeros_like(held_out.prism_flux),
        prism_error=np.ones_like(held_out.prism_error),
        target_mask=np.ones_like(held_out.target_mask),
        line_known=np.zeros_like(held_out.line_known),
        line_snr=np.zeros_like(held_out.line_snr),
        redshift=np.full_like(held_out.redshift, np.nan),
    )


def values(estimates):
    """Name to value."""
    return {name: estimate.value for name, estimate in estimates.items()}
