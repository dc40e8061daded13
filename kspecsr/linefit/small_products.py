"""Products of many small matrices, in pieces for which BLAS starts no threads.

Threads take longer to start than such a product takes, and hundreds of times longer where other programs
want the same cores. OpenBLAS starts them from 2**18 multiplications on.
"""

from __future__ import annotations

import numpy as np

_MOST_MULTIPLICATIONS = 1 << 17


def _blocks(pixels: int, multiplications: int) -> list[slice]:
    width = max(_MOST_MULTIPLICATIONS // max(multiplications, 1), 1)
    return [slice(start, start + width) for start in range(0, pixels, width)]


def over_pixels(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(B, n, m) sums over the pixels of a (B, n, P) times b (B, m, P)."""
    total = np.zeros((len(a), a.shape[1], b.shape[1]))
    for block in _blocks(a.shape[2], a.shape[1] * b.shape[1]):
        total += a[..., block] @ b[..., block].transpose(0, 2, 1)
    return total


def onto_pixels(matrix: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(B, n, P) product of matrix (B, n, m) and columns (B, m, P)."""
    out = np.empty((len(matrix), matrix.shape[1], columns.shape[2]))
    for block in _blocks(columns.shape[2], matrix.shape[1] * matrix.shape[2]):
        out[..., block] = matrix @ columns[..., block]
    return out
