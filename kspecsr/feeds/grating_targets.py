"""Noisy targets from simulated galaxies: gratings stitched as those of real ones."""

from __future__ import annotations

import numpy as np

from data_pipeline.instrument import load_instrument
from data_pipeline.pairs.preprocessing import PreprocessingConfig
from data_pipeline.pairs.stitching import stitch
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.simulation import SimulatedBatch
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta


def stitched_gratings(batch: SimulatedBatch, grid: UnifiedGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gratings of a batch on the unified grid, (b, n) flux, error [erg/s/cm2/A] and mask; NaN where masked.

    A galaxy whose gratings cannot be stitched, or cover too little for a record, is masked throughout.
    """
    shape = (len(batch), grid.size)
    flux, error, mask = np.full(shape, np.nan), np.full(shape, np.nan), np.ones(shape, bool)
    config = PreprocessingConfig(grid=grid)
    for row in range(len(batch)):
        try:
            stitched = stitch(_gratings(batch, row), grid, config.stitch)
        except (SpectrumError, ValueError):
            continue
        if 1.0 - stitched.mask.mean() >= config.minimum_grating_coverage:
            flux[row], error[row], mask[row] = stitched.flux, stitched.error, stitched.mask
    return flux, error, mask


def _gratings(batch: SimulatedBatch, row: int) -> list[ObservedSpectrum]:
    taken = []
    for k, (arm, spectra) in enumerate(batch.gratings.items()):
        if batch.grating_taken[row, k]:
            meta = SpectrumMeta(disperser=load_instrument(arm).disperser, path=batch.unique_id[row])
            taken.append(
                ObservedSpectrum(
                    batch.grating_wavelength[arm],
                    spectra.flux[row],
                    spectra.error[row],
                    spectra.mask[row],
                    meta,
                )
            )
    return taken
