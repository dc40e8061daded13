"""Least squares for many small problems at once, through scaled normal equations."""

from dataclasses import dataclass

import numpy as np

RIDGE = 1e-12  # on a unit diagonal: a matrix without an inverse gets one, with huge errors


@dataclass(frozen=True, eq=False)
class LinearFit:
    """Solution of weighted linear least squares.

    Attributes:
        value: (..., p) coefficients of the columns.
        covariance: (..., p, p) their covariance, for weights that are inverse variances.
        gain: (...) chi-square of the data less that of what the fit leaves.
    """

    value: np.ndarray
    covariance: np.ndarray
    gain: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """(..., p) one-sigma errors of the coefficients."""
        return np.sqrt(np.maximum(np.einsum("...ii->...i", self.covariance), 0.0))


def linear_fit(columns: np.ndarray, weight: np.ndarray, data: np.ndarray) -> LinearFit:
    """Least squares of finite data (..., m) over columns (..., p, m), with inverse variances as weights."""
    weighted = columns * weight[..., None, :]
    covariance = inverse(weighted @ np.swapaxes(columns, -1, -2))
    match = np.einsum("...pm,...m->...p", weighted, data)
    value = np.einsum("...pq,...q->...p", covariance, match)
    return LinearFit(value, covariance, (value * match).sum(axis=-1))


def inverse(normal: np.ndarray) -> np.ndarray:
    """Inverse of symmetric positive matrices (..., p, p), scaled to a unit diagonal first."""
    # Flux densities and steps differ by 1e20: unscaled, the ridge would be nothing to one column and
    # everything to the other.
    size = np.sqrt(np.maximum(np.einsum("...ii->...i", normal), 1e-60))
    scale = size[..., :, None] * size[..., None, :]
    return np.linalg.inv(normal / scale + RIDGE * np.eye(normal.shape[-1])) / scale


_FULL_EXCHANGES = 3  # that may fail to reduce the number of violations before single ones take over
_MOST_STEPS = 60  # problems that are left then are solved one by one
_TOLERANCE = 1e-10


def non_negative_solution(normal: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Minimises x S x / 2 - r x over x >= 0, exactly.

    Block principal pivoting (Kim & Park 2011, SIAM J. Sci. Comput. 33, 3261): all variables that violate the
    optimality conditions change sides at once; when that stops helping, the last of them alone. S (B, n, n)
    is positive definite, r (B, n).
    """
    solution = np.zeros(right.shape)
    scale = np.abs(right).max(axis=1, initial=0.0)
    active = np.flatnonzero(scale > 0)
    free = right > 0  # (B, n): not held at zero
    fewest = np.full(len(right), right.shape[1] + 1)
    tries = np.full(len(right), _FULL_EXCHANGES)
    for _ in range(_MOST_STEPS):
        if active.size == 0:
            return solution
        S, r, on = normal[active], right[active], free[active]
        x = _held_at_zero(S, r, on)
        gradient = np.einsum("bij,bj->bi", S, x) - r
        # Relative to the right-hand side: solutions scale with the flux unit.
        limit = _TOLERANCE * scale[active, None]
        wrong = (on & (x < -limit)) | (~on & (gradient < -limit))
        count = wrong.sum(axis=1)
        done = count == 0
        solution[active[done]] = np.maximum(x[done], 0.0)
        fewer = count < fewest[active]
        fewest[active] = np.where(fewer, count, fewest[active])
        tries[active] = np.where(fewer, _FULL_EXCHANGES, tries[active] - 1)
        last = wrong.shape[1] - 1 - np.argmax(wrong[:, ::-1], axis=1)
        alone = (np.arange(wrong.shape[1]) == last[:, None]) & wrong
        free[active] ^= np.where((tries[active] >= 0)[:, None], wrong, alone)
        active = active[~done]
    if active.size:
        from scipy.optimize import nnls  # slow to import, and hardly ever needed
    for row in active:
        lower = np.linalg.cholesky(normal[row])
        solution[row] = nnls(lower.T, np.linalg.solve(lower, right[row]))[0]
    return solution


def _held_at_zero(S: np.ndarray, r: np.ndarray, free: np.ndarray) -> np.ndarray:
    """(B, n) solution of S x = r in the free variables, the others 0."""
    identity = np.eye(S.shape[-1])
    within = S * (free[:, :, None] & free[:, None, :]) + identity * ~free[:, None, :]
    return np.linalg.solve(within, (r * free)[..., None])[..., 0]
