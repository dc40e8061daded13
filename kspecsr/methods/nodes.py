"""Spectra as values at nodes two per prism pixel: the basis in which the linear baselines solve."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse

from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.resampling import cubic_interpolation
from kspecsr.methods.prism_view import PrismView, prism_view

STEP = 0.5  # prism pixels between nodes


@dataclass(frozen=True, eq=False)
class Nodes:
    """A basis of n node values, joined by Catmull-Rom cubics.

    A prism pixel is 2.4 to 27 pixels of the unified grid wide and the line-spread function three prism
    pixels. Two nodes per prism pixel hold what a linear method can restore (the tests compare with the
    solution in all N pixels) and make the systems banded.

    Attributes:
        view: the prism.
        position: (n,) places of the nodes [prism pixels].
        spread: (N', n) CSR, node values to flux density on the wider grid.
        seen: (P, n) CSR, node values to prism pixels.
        width: u: ``seen.T @ diag(w) @ seen`` has u diagonals above its main one.
        products: ((u + 1) n, P) CSR: weights w to those diagonals, in LAPACK's upper banded storage.
    """

    view: PrismView
    position: np.ndarray
    spread: sparse.csr_matrix
    seen: sparse.csr_matrix
    width: int
    products: sparse.csr_matrix

    def normal_bands(self, weight: np.ndarray) -> np.ndarray:
        """Bands (B, u + 1, n) of ``seen.T @ diag(weight) @ seen`` for weights (B, P)."""
        return (self.products @ weight.T).T.reshape(len(weight), self.width + 1, self.position.size)

    def on_grid(self, values: np.ndarray) -> np.ndarray:
        """Node values (B, n) as flux density (B, N) on the unified grid."""
        return (self.spread[self.view.inside] @ values.T).T

    def error_on_grid(self, error: np.ndarray) -> np.ndarray:
        """Errors of node values (B, n) as errors (B, N), linear between nodes, which hang together."""
        place = self.view.position[self.view.inside]
        return np.stack([np.interp(place, self.position, row) for row in error])


@lru_cache(maxsize=4)
def nodes_for(grid: UnifiedGrid) -> Nodes:
    """The basis for a unified grid; remembered."""
    view = prism_view(grid)
    first = STEP * (np.floor(view.position[0] / STEP) - 1)
    count = int(np.ceil((view.position[-1] - first) / STEP)) + 2
    position = first + STEP * np.arange(count)
    spread = cubic_interpolation((view.position - first) / STEP, count)
    seen = sparse.csr_matrix(view.matrix @ spread)
    seen.sort_indices()
    width, products = _products(seen)
    return Nodes(view, position, spread, seen, width, products)


def _products(seen: sparse.csr_matrix) -> tuple[int, sparse.csr_matrix]:
    """Number of upper diagonals, and the matrix from pixel weights to the bands."""
    pixels, count = seen.shape
    length = np.diff(seen.indptr)
    span = [seen.indices[a:b] for a, b in zip(seen.indptr[:-1], seen.indptr[1:], strict=True) if b > a]
    width = max((int(np.ptp(columns)) for columns in span), default=0)
    width = max(width, 2)  # room for a penalty of second differences
    rows, columns, values = [], [], []
    for pixel in np.flatnonzero(length):
        part = slice(seen.indptr[pixel], seen.indptr[pixel + 1])
        index, value = seen.indices[part], seen.data[part]
        i, j = np.triu_indices(index.size)
        rows.append((width + index[i] - index[j]) * count + index[j])
        columns.append(np.full(i.size, pixel))
        values.append(value[i] * value[j])
    shape = ((width + 1) * count, pixels)
    if not rows:
        return width, sparse.csr_matrix(shape)
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return width, sparse.csr_matrix(entries, shape=shape)
