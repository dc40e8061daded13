"""A sparse matrix along the pixels as dense blocks: no scatter in its gradient, little memory."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops
from scipy import sparse

from kspecsr.layers.geometry import (
    PRISM_RESOLUTION_SCALE,
    degradation_matrix,
    prism_wavelength,
    upsampling_matrix,
)

_BLOCK = 64  # output pixels that share one gathered stretch of input


def matrix_blocks(matrix: sparse.csr_matrix, size: int = _BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """A banded matrix as blocks of rows.

    Args:
        matrix: (n_out, n_in).
        size: rows in a block.

    Returns:
        ``first`` (blocks,), the input pixel at which each block starts, and ``weights`` (blocks, size, width)
        so that rows of block b are ``weights[b] @ x[first[b] : first[b] + width]``. Rows beyond n_out are 0.
    """
    n_out, n_in = matrix.shape
    blocks = -(-n_out // size)
    stretches = []
    for b in range(blocks):
        columns = matrix[b * size : (b + 1) * size].indices
        stretches.append((columns.min(), columns.max() + 1) if columns.size else (0, 1))
    width = max(high - low for low, high in stretches)
    first = np.array([min(low, n_in - width) for low, _ in stretches])
    weights = np.zeros((blocks, size, width))
    for b in range(blocks):
        part = matrix[b * size : (b + 1) * size, first[b] : first[b] + width].toarray()
        weights[b, : part.shape[0]] = part
    return first, weights


class BlockOperator(keras.layers.Layer):
    """Applies a fixed banded matrix along axis 1; subclasses give the matrix.

    Input shape:
        (B, n_in, C).

    Output shape:
        (B, n_out, C).
    """

    def matrix(self) -> sparse.csr_matrix:
        """(n_out, n_in), from the layer's own arguments."""
        raise NotImplementedError("a subclass gives the matrix")  # abstract

    def build(self, *_):
        """Cuts the matrix into blocks."""
        matrix = self.matrix()
        first, weights = matrix_blocks(matrix)
        self._n_out = matrix.shape[0]
        self._blocks, self._size, self._width = weights.shape
        self._index = (first[:, None] + np.arange(self._width)).reshape(-1).astype("int32")
        self._weights = weights.astype("float32")

    def call(self, x):
        """See the class."""
        channels = x.shape[-1]
        # pixels first: then each block is one large product over batch and channels together
        rows = ops.reshape(ops.transpose(x, (1, 0, 2)), (x.shape[1], -1))  # (n_in, B C)
        stretches = ops.reshape(
            ops.take(rows, self._index, axis=0), (self._blocks, self._width, ops.shape(rows)[1])
        )
        weights = ops.cast(ops.convert_to_tensor(self._weights), x.dtype)
        out = ops.reshape(ops.matmul(weights, stretches), (self._blocks * self._size, -1, channels))
        return ops.transpose(out[: self._n_out], (1, 0, 2))


@keras.saving.register_keras_serializable("kspecsr")
class Upsampling(BlockOperator):
    """Cubic interpolation in prism pixels (paper section 3.1, as a layer).

    Args:
        grid: start [um], stop [um] and sampling of the unified grid.

    Input shape:
        (B, P, C) on the prism's pixels.

    Output shape:
        (B, N, C) on the unified grid.
    """

    def __init__(self, grid, **options):
        super().__init__(**options)
        self.grid = tuple(float(value) for value in grid)

    def matrix(self):
        """(N, P)."""
        return upsampling_matrix(self.grid)

    def get_config(self):
        """Arguments, for saving."""
        return {**super().get_config(), "grid": list(self.grid)}

    @property
    def pixels(self) -> int:
        """P."""
        return prism_wavelength().size


@keras.saving.register_keras_serializable("kspecsr")
class PrismDegradation(keras.layers.Layer):
    """Line-spread operator from the unified grid to the prism's pixels (DESIGN section 2, point 3).

    The same matrix as `Instrument.line_spread_operator`, as a dense product: on a CPU that is faster than
    gathering 400 neighbours for each of 700 pixels. Pixels whose kernel reaches beyond the grid are scaled to
    the part that they see.

    Args:
        grid: start [um], stop [um] and sampling of the unified grid.
        resolution_scale: factor on the tabulated prism resolving power (JADES: 1.22).

    Input shape:
        (B, N) on the unified grid.

    Output shape:
        (B, P) on the prism's pixels.
    """

    def __init__(self, grid, resolution_scale=PRISM_RESOLUTION_SCALE, **options):
        super().__init__(**options)
        self.grid = tuple(float(value) for value in grid)
        self.resolution_scale = float(resolution_scale)

    def build(self, *_):
        """Reads the operator."""
        matrix, interior = degradation_matrix(self.grid, self.resolution_scale)
        dense = matrix.toarray()
        seen = dense.sum(axis=1, keepdims=True)
        dense = np.where(interior[:, None], dense, dense / np.maximum(seen, 0.5))
        self._matrix = dense.T.astype("float32")  # (N, P)

    @property
    def interior(self) -> np.ndarray:
        """(P,) bool: pixels whose kernel lies on the grid."""
        return degradation_matrix(self.grid, self.resolution_scale)[1]

    def call(self, flux):
        """See the class."""
        return ops.matmul(flux, self._matrix)

    def get_config(self):
        """Arguments, for saving."""
        return {
            **super().get_config(),
            "grid": list(self.grid),
            "resolution_scale": self.resolution_scale,
        }
