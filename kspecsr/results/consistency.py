"""A sharp spectrum back through the instrument, with NumPy: what the prism would have seen of it."""

from __future__ import annotations

import numpy as np

from data_pipeline.instrument import degrading_operator
from data_pipeline.instrument.prism_pixels import PIXEL_NOISE_VARIANCE
from data_pipeline.pixel_grid import UnifiedGrid


def degraded_to_prism(flux: np.ndarray, grid: UnifiedGrid) -> np.ndarray:
    """Flux density on the unified grid (N,) to the prism's pixels (P,); NaN where those see beyond it."""
    operator = degrading_operator(grid)
    return np.where(operator.interior, operator.apply(flux), np.nan)


def seen_on_grid(grid: UnifiedGrid) -> np.ndarray:
    """(P,) bool: prism pixels that see light from the grid alone."""
    return degrading_operator(grid).interior


def prism_chi_square(flux: np.ndarray, error: np.ndarray, mask: np.ndarray, model: np.ndarray) -> float:
    """Chi-square per good prism pixel, as `kspecsr.layers.PrismConsistency` gives it; NaN without one.

    Args:
        flux: (P,) observed.
        error: (P,) one sigma.
        mask: (P,) bool, True = bad.
        model: (P,) degraded output, NaN where unknown.
    """
    good = ~mask & np.isfinite(model)
    if not good.any():
        return float("nan")
    return float(np.mean(((flux[good] - model[good]) / error[good]) ** 2)) / PIXEL_NOISE_VARIANCE
