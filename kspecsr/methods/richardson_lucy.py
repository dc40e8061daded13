"""Richardson-Lucy deconvolution: multiplicative, positive, stopped early."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse
from scipy.ndimage import median_filter

from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.methods.baseline import FEWEST_PIXELS, Baseline, PrismView, prism_view
from kspecsr.methods.regularised import SPACING, Probing

_LEVEL_WINDOW = 51  # prism pixels over which the noise level is a median
_NOT_SEEN = 1e-6  # share of a grid pixel's light in prism pixels; with all of them good it is 0.03 to 0.4
_POSITIVE = 0.05  # of the offset: what negative data are raised to


@dataclass(frozen=True)
class RichardsonLucy(Baseline):
    """``x <- x A^T(m y / A x) / A^T m`` on all pixels of the grid, without the masked pixels (m = 0).

    Positivity: x = f + c and y = d + A c with a smooth offset c of ``offset`` times the local noise level
    (running median of the quoted errors), taken off at the end. Data still below 0.05 c, 1 % of pure noise at
    an offset of 2, are raised to that. x starts at the data averaged with the line-spread function as
    weight; the fewer iterations, the smoother the result.

    Errors are linearised: those of as many iterations about a flat spectrum, where the method is the
    linear Landweber iteration, with the correlation of the pixels' noise, and with masked pixels taken to
    be as noisy as their neighbours. Lines that outshine continuum plus offset converge faster and are
    noisier than that, by 6 % in the median and 30 % at worst for what ships.

    Attributes:
        iterations: their number.
        offset: c in units of the noise level.
    """

    iterations: int = 10
    offset: float = 4.0
    name = "richardson_lucy"

    def __post_init__(self) -> None:
        if self.iterations < 0 or self.iterations != int(self.iterations):
            raise ValueError(
                f"richardson_lucy: expected a whole number of iterations, got {self.iterations!r}"
            )
        if not self.offset > 0:
            raise ValueError(f"richardson_lucy: expected an offset above 0, got {self.offset!r}")

    def _reconstruct(self, flux, error, mask, grid):
        view = prism_view(grid)
        good = ~mask & view.usable
        level = noise_level(error, mask)
        pixel = np.arange(level.shape[1])
        offset = self.offset * np.stack([np.interp(view.position, pixel, row) for row in level])
        counts = np.where(good, flux + view.apply(offset), 0.0)
        floor = np.where(good, _POSITIVE * view.apply(offset), 0.0)
        share = view.apply_transposed(good.astype(float))
        # From the data at the prism's resolution, not from a flat spectrum: ten iterations would go into
        # finding the continuum.
        start = offset + np.maximum(_ratio(view.apply_transposed(flux * good), share, 0.0), -0.9 * offset)
        restored = iterate(np.maximum(counts, floor), good, start, self.iterations, view) - offset
        filled = np.where(good, error, level)
        variance = (_variance_weights(grid, int(self.iterations)) @ (filled**2).T).T
        restored[good.sum(axis=1) < FEWEST_PIXELS] = np.nan
        sigma = np.sqrt(np.maximum(variance, 0.0))
        return restored[:, view.inside], np.where(np.isnan(restored[:, :1]), np.nan, sigma)


def iterate(
    counts: np.ndarray, good: np.ndarray, start: np.ndarray, iterations: int, view: PrismView
) -> np.ndarray:
    """Run the iteration on positive data (B, P), 0 where not good, from a positive first guess (B, N').

    The result (B, N') is positive, and unchanged where no good pixel sees it.
    """
    share = view.apply_transposed(good.astype(float))
    x = start.copy()
    for _ in range(int(iterations)):
        quotient = np.divide(counts, view.apply(x), out=np.zeros(counts.shape), where=good)
        x *= _ratio(view.apply_transposed(quotient), share, 1.0)
    return x


def noise_level(error: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Running median (B, P) of the quoted errors, across masked pixels; 1 without a good pixel."""
    pixel = np.arange(error.shape[1])
    filled = np.ones(error.shape)
    for row in np.flatnonzero((~mask).any(axis=1)):
        good = ~mask[row]
        filled[row] = np.interp(pixel, pixel[good], error[row, good])
    return median_filter(filled, (1, _LEVEL_WINDOW), mode="nearest")


def _ratio(above: np.ndarray, share: np.ndarray, otherwise: float) -> np.ndarray:
    """Quotient where any good pixel sees the grid's pixel."""
    return np.divide(above, share, out=np.full(above.shape, otherwise), where=share > _NOT_SEEN)


@lru_cache(maxsize=8)
def _variance_weights(grid: UnifiedGrid, iterations: int) -> sparse.csr_matrix:
    """(N, P) CSR from squared quoted errors to variances, about a flat spectrum with every pixel good."""
    view = prism_view(grid)
    pixels = view.wavelength.size
    share = view.apply_transposed(view.usable[None].astype(float))
    impulse = np.arange(pixels) % SPACING == np.arange(SPACING)[:, None]
    impulse = np.where(view.usable, impulse.astype(float), 0.0)
    x = _ratio(view.apply_transposed(impulse), np.broadcast_to(share, (SPACING, share.size)), 0.0)
    for _ in range(iterations):
        left = impulse - view.apply(x)
        x += _ratio(view.apply_transposed(left), np.broadcast_to(share, x.shape), 0.0)
    probing = Probing.around(view.position[view.inside], pixels)
    weights = probing.variance_weights(x[:, view.inside].T)
    row = np.broadcast_to(np.arange(len(weights))[:, None], weights.shape)
    keep = probing.inside & (np.abs(weights) > 1e-6 * np.abs(weights).max(axis=1, keepdims=True))
    return sparse.csr_matrix((weights[keep], (row[keep], probing.index[keep])), shape=(len(weights), pixels))
