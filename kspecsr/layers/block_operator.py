"""A sparse matrix along the pixels as dense blocks: no scatter in its gradient, little memory."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops
from scipy import sparse

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
