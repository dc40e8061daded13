"""Cubic interpolation: the paper's input to its networks (section 3.1), and no deconvolution at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.resampling import upsample
from kspecsr.baselines.protocol import FEWEST_PIXELS, checked_arrays


@dataclass(frozen=True)
class CubicInterpolation:
    """`data_pipeline.resampling.upsample` of every spectrum; the error is the interpolated quoted error."""

    name: ClassVar[str] = "cubic"

    @property
    def parameters(self) -> dict[str, float]:
        """None."""
        return {}

    def reconstruct(
        self, prism_flux: np.ndarray, prism_error: np.ndarray, prism_mask: np.ndarray, grid: UnifiedGrid
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `kspecsr.baselines.protocol.Baseline.reconstruct`."""
        wavelength = load_instrument(PRISM).wavelength
        flux, error, mask = checked_arrays(prism_flux, prism_error, prism_mask, wavelength.size)
        fine = np.full((len(flux), grid.size), np.nan)
        sigma = fine.copy()
        for row in np.flatnonzero((~mask).sum(axis=1) >= FEWEST_PIXELS):
            fine[row], sigma[row], _ = upsample(wavelength, flux[row], error[row], mask[row], grid.wavelength)
        return fine, sigma
