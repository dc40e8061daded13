"""What every classical baseline offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.resampling import upsample

FEWEST_PIXELS = 4  # a spectrum with fewer good pixels is not reconstructed


class Baseline(Protocol):
    """A method without training that turns prism spectra into spectra on the unified grid.

    Attributes:
        name: short, unique.
        parameters: name to number; empty for a method without any.
    """

    name: str

    @property
    def parameters(self) -> dict[str, float]:
        """Name to number."""

    def reconstruct(
        self, prism_flux: np.ndarray, prism_error: np.ndarray, prism_mask: np.ndarray, grid: UnifiedGrid
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reconstructs a batch.

        Args:
            prism_flux: (B, P) [1e-20 erg/s/cm2/A]; any unit will do. Not used where masked.
            prism_error: (B, P) quoted one-sigma errors in the same unit. Not used where masked.
            prism_mask: (B, P) bool, True = bad.
            grid: unified grid of the output, N pixels.

        Returns:
            Flux and one-sigma error (B, N) in the same unit; NaN where the prism has no data, and
            throughout for spectra with fewer than `FEWEST_PIXELS` good pixels.
        """


def checked_arrays(
    prism_flux: np.ndarray, prism_error: np.ndarray, prism_mask: np.ndarray, pixels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three as float64 and bool; masked pixels, and those that cannot be used, as flux 0 and error 1.

    Raises:
        ValueError: for arrays that are not (B, pixels).
    """
    flux, error = (np.asarray(array, np.float64) for array in (prism_flux, prism_error))
    mask = np.asarray(prism_mask, bool)
    if not flux.shape == error.shape == mask.shape or flux.ndim != 2 or flux.shape[1] != pixels:
        raise ValueError(
            f"baseline: expected flux, error and mask of one shape (B, {pixels}), got {flux.shape}, "
            f"{error.shape} and {mask.shape}; a single spectrum needs a leading axis"
        )
    with np.errstate(invalid="ignore"):
        mask = mask | ~np.isfinite(flux) | ~np.isfinite(error) | ~(error > 0)
    return np.where(mask, 0.0, flux), np.where(mask, 1.0, error), mask


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
        """See `kspecsr.methods.protocol.Baseline.reconstruct`."""
        wavelength = load_instrument(PRISM).wavelength
        flux, error, mask = checked_arrays(prism_flux, prism_error, prism_mask, wavelength.size)
        fine = np.full((len(flux), grid.size), np.nan)
        sigma = fine.copy()
        for row in np.flatnonzero((~mask).sum(axis=1) >= FEWEST_PIXELS):
            fine[row], sigma[row], _ = upsample(wavelength, flux[row], error[row], mask[row], grid.wavelength)
        return fine, sigma
