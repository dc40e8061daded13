"""The linear solution that Tikhonov and Wiener share: least squares with a quadratic penalty on the nodes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded

from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.baselines.nodes import Nodes, nodes_for
from kspecsr.baselines.probing import SPACING, Probing
from kspecsr.baselines.protocol import FEWEST_PIXELS

# Relative to the largest diagonal element: keeps the factorisation stable where half a spectrum is missing.
_RIDGE = 1e-12


@lru_cache(maxsize=4)
def _probing(grid: UnifiedGrid) -> tuple[Probing, np.ndarray, np.ndarray, np.ndarray]:
    """Windows at the nodes; place in an (n, 48) array, value and pixel of each element of ``seen``."""
    nodes = nodes_for(grid)
    seen = nodes.seen.tocoo()
    place = seen.col.astype(np.int64) * SPACING + seen.row % SPACING
    return Probing.around(nodes.position, nodes.view.wavelength.size), place, seen.data, seen.row


def regularised_solution(
    flux: np.ndarray,
    error: np.ndarray,
    weight: np.ndarray,
    penalty: np.ndarray,
    nodes: Nodes,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimises ``sum_p w_p (d_p - (M c)_p)^2 + c^T R c`` over node values c.

    The error is that of the linear estimator ``(M^T W M + R)^-1 M^T W d`` under the pixels' correlated
    noise: scatter over repeated observations, without what the penalty takes from or adds to the truth.

    Args:
        flux: (B, P) data.
        error: (B, P) quoted errors; not used where the weight is 0.
        weight: (B, P) weights; 0 = no weight.
        penalty: (B, k + 1, n) upper bands of R, k at most ``nodes.width``.
        nodes: basis.

    Returns:
        Flux and error on the unified grid (B, N); NaN for spectra with too few pixels that have weight.
    """
    bands = nodes.normal_bands(weight)
    bands[:, -penalty.shape[1] :] += penalty
    bands[:, -1] += _RIDGE * bands[:, -1].max(axis=1, keepdims=True)
    right = (nodes.seen.T @ (weight * flux).T).T
    probing, place, value, pixel = _probing(nodes.view.grid)
    values = np.full(right.shape, np.nan)
    sigma = np.full(right.shape, np.nan)
    for row in np.flatnonzero((weight > 0).sum(axis=1) >= FEWEST_PIXELS):
        # Last column the data, the others impulses; Fortran order is what LAPACK takes without a copy.
        sides = np.zeros((SPACING + 1, right.shape[1]))
        impulses = np.zeros(right.shape[1] * SPACING)
        impulses[place] = value * weight[row, pixel]
        sides[:SPACING] = impulses.reshape(-1, SPACING).T
        sides[SPACING] = right[row]
        factor = cholesky_banded(bands[row], overwrite_ab=True, check_finite=False)
        solved = cho_solve_banded((factor, False), sides.T, overwrite_b=True, check_finite=False)
        values[row] = solved[:, SPACING]
        sigma[row] = probing.error(solved[:, :SPACING], np.where(weight[row] > 0, error[row], 0.0))
    return nodes.on_grid(values), nodes.error_on_grid(sigma)
