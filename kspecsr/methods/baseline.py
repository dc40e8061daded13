"""Classical baselines: their interface, cubic interpolation, and the line-spread operator that they invert.

The operator is that of `kspecsr.results.prism_input`, for a grid that is prolonged at both ends: on the grid
itself 73 prism pixels at its ends could not be used. In the pixels that both have they agree to 2e-4.
"""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from scipy import sparse

from data_pipeline.instrument import PRISM, Instrument, degrading_operator, load_instrument
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.resampling import neighbours, upsample_rows

# Prism pixels beyond the grid that are modelled too, so that the light which the grid's ends send and
# receive across them is accounted for; the operator reaches 8 pixels.
MARGIN = 24
_ROWS_PER_BLOCK = 32


@dataclass(frozen=True, eq=False)
class PrismView:
    """The prism seen from a unified grid, and from the same grid prolonged at both ends.

    Attributes:
        grid: the unified grid, N pixels.
        wider: the grid prolonged by whole pixels, N' of them.
        inside: the slice of ``wider`` that is ``grid``.
        wavelength: (P,) prism pixel centres [um].
        position: (N',) place of each grid pixel in prism pixels; fractional, also below 0 and above P - 1.
        matrix: (P, N') CSR, from the flux density on ``wider`` at R about 1000 to prism pixels.
        usable: (P,) bool: prism pixels that see light from ``wider`` alone.
        blocks: rows, columns and dense part of ``matrix``, which together are all of it.
    """

    grid: UnifiedGrid
    wider: UnifiedGrid
    inside: slice
    wavelength: np.ndarray
    position: np.ndarray
    matrix: sparse.csr_matrix
    usable: np.ndarray
    blocks: tuple[tuple[slice, slice, np.ndarray], ...]

    def apply(self, flux: np.ndarray) -> np.ndarray:
        """Flux density (B, N') on the wider grid as the prism sees it, (B, P)."""
        seen = np.zeros((len(flux), self.wavelength.size), flux.dtype)
        for rows, columns, part in self.blocks:
            seen[:, rows] = flux[:, columns] @ part.T
        return seen

    def apply_transposed(self, pixels: np.ndarray) -> np.ndarray:
        """Transpose of `apply`: (B, P) to (B, N')."""
        spread = np.zeros((len(pixels), self.wider.size), pixels.dtype)
        for rows, columns, part in self.blocks:
            spread[:, columns] += pixels[:, rows] @ part
        return spread


@lru_cache(maxsize=4)
def prism_view(grid: UnifiedGrid) -> PrismView:
    """The prism seen from a unified grid; cached."""
    prism = load_instrument(PRISM)
    wider, before = _prolonged(grid, prism)
    operator = degrading_operator(wider)
    matrix = sparse.csr_matrix(sparse.diags(operator.interior.astype(float)) @ operator.matrix)
    matrix.eliminate_zeros()
    return PrismView(
        grid=grid,
        wider=wider,
        inside=slice(before, before + grid.size),
        wavelength=prism.wavelength,
        position=prism.position(wider.wavelength),
        matrix=matrix,
        usable=operator.interior,
        blocks=_dense_blocks(matrix),
    )


def _prolonged(grid: UnifiedGrid, prism: Instrument) -> tuple[UnifiedGrid, int]:
    """The grid extended at both ends, and the number of pixels added before its first."""
    place = np.arange(prism.wavelength.size)
    step = np.gradient(prism.wavelength)
    first, last = grid.wavelength[[0, -1]]
    low = np.interp(first, prism.wavelength, prism.wavelength - MARGIN * step)
    high = np.interp(last, prism.wavelength, prism.wavelength + MARGIN * step)
    # No further than the prism's first and last pixel can see.
    low = max(low, prism.wavelength[0] - 10 * step[place[0]])
    high = min(high, prism.wavelength[-1] + 10 * step[place[-1]])
    before = max(int(np.ceil(np.log(first / low) * grid.sampling)), 0)
    after = max(int(np.ceil(np.log(high / last) * grid.sampling)), 0)
    start = grid.start * np.exp(-before / grid.sampling)
    # Half a pixel to spare, so that rounding cannot lose the last one.
    stop = start * np.exp((before + grid.size - 1 + after + 0.5) / grid.sampling)
    return UnifiedGrid(float(start), float(stop), grid.sampling), before


def _dense_blocks(matrix: sparse.csr_matrix) -> tuple[tuple[slice, slice, np.ndarray], ...]:
    """A banded matrix as dense blocks of rows, whose products are several times faster than sparse ones."""
    blocks = []
    for first in range(0, matrix.shape[0], _ROWS_PER_BLOCK):
        rows = slice(first, min(first + _ROWS_PER_BLOCK, matrix.shape[0]))
        part = matrix[rows]
        if part.nnz:
            columns = slice(int(part.indices.min()), int(part.indices.max()) + 1)
            blocks.append((rows, columns, np.ascontiguousarray(part[:, columns].toarray())))
    return tuple(blocks)


@lru_cache(maxsize=4)
def _neighbours(grid: UnifiedGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prism pixels left and right of each grid pixel (N,), and whether it lies outside all of them."""
    prism = load_instrument(PRISM)
    return neighbours(prism.wavelength, prism.bounds, grid.wavelength)


def uncovered(grid: UnifiedGrid, prism_mask: np.ndarray) -> np.ndarray:
    """Grid pixels (B, N) for which the prism has no data.

    The rule of `data_pipeline.resampling.upsample`: outside the prism's pixels, or with a masked pixel
    next to it on either side.
    """
    left, right, outside = _neighbours(grid)
    return outside | prism_mask[:, left] | prism_mask[:, right]


FEWEST_PIXELS = 4  # a spectrum with fewer good pixels is not reconstructed


@dataclass(frozen=True)
class Baseline(ABC):
    """A method without training that turns prism spectra into spectra on the unified grid.

    Attributes:
        name: short, unique.
    """

    name: ClassVar[str]

    @property
    def parameters(self) -> dict[str, float]:
        """Name to number; empty for a method without parameters."""
        return asdict(self)

    def reconstruct(
        self, prism_flux: np.ndarray, prism_error: np.ndarray, prism_mask: np.ndarray, grid: UnifiedGrid
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reconstruct a batch.

        Args:
            prism_flux: (B, P) [1e-20 erg/s/cm2/A]; any unit will do. Not used where masked.
            prism_error: (B, P) quoted one-sigma errors in the same unit. Not used where masked.
            prism_mask: (B, P) bool, True = bad.
            grid: unified grid of the output, N pixels.

        Returns:
            Flux and one-sigma error (B, N) in the same unit; NaN where the prism has no data, and
            throughout for spectra with fewer than `FEWEST_PIXELS` good pixels.

        Raises:
            ValueError: for arrays that are not (B, P).
        """
        flux, error = (np.asarray(array, np.float64) for array in (prism_flux, prism_error))
        mask, pixels = np.asarray(prism_mask, bool), load_instrument(PRISM).wavelength.size
        if not flux.shape == error.shape == mask.shape or flux.ndim != 2 or flux.shape[1] != pixels:
            raise ValueError(
                f"baseline: expected flux, error and mask of one shape (B, {pixels}), got {flux.shape}, "
                f"{error.shape} and {mask.shape}; a single spectrum needs a leading axis"
            )
        with np.errstate(invalid="ignore"):
            mask = mask | ~np.isfinite(flux) | ~np.isfinite(error) | ~(error > 0)
        # Finite where masked: 0 times NaN would spread over the whole spectrum in the products.
        flux, error = np.where(mask, 0.0, flux), np.where(mask, 1.0, error)
        fine, sigma = self._reconstruct(flux, error, mask, grid)
        gone = uncovered(grid, mask)
        return np.where(gone, np.nan, fine), np.where(gone, np.nan, sigma)

    @abstractmethod
    def _reconstruct(
        self, flux: np.ndarray, error: np.ndarray, mask: np.ndarray, grid: UnifiedGrid
    ) -> tuple[np.ndarray, np.ndarray]:
        """Flux and error (B, N) from arrays (B, P) with flux 0 and error 1 where masked."""


class CubicInterpolation(Baseline):
    """`data_pipeline.resampling.upsample` of every spectrum; the error is the interpolated quoted error."""

    name = "cubic"

    def _reconstruct(self, flux, error, mask, grid):
        wavelength = load_instrument(PRISM).wavelength
        return upsample_rows(wavelength, flux, error, mask, grid.wavelength)
