"""A Gaussian on a straight line, fitted to many short windows at once (the paper's equation 1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NARROWEST = 0.4  # pixels, one sigma
_STARTS = (1.0, 1.8, 3.2, 6.0, 11.0)  # pixels, one sigma
_FARTHEST = 4.0  # pixels of the centre from the expected one
_ITERATIONS = 25
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class GaussianFits:
    """Fits of n windows.

    Attributes:
        height: (n,) of the Gaussian, in the unit of the values; negative for a dip.
        centre: (n,) [pixels] from the expected one.
        sigma: (n,) one-sigma width [pixels], at most half of the window's half.
    """

    height: np.ndarray
    centre: np.ndarray
    sigma: np.ndarray

    @property
    def area(self) -> np.ndarray:
        """(n,) integral of the Gaussian [value x pixels]."""
        return self.height * self.sigma * np.sqrt(2.0 * np.pi)


def fit_gaussians(offset: np.ndarray, values: np.ndarray, used: np.ndarray) -> GaussianFits:
    """Least-squares fits of ``c0 + c1 x + A exp(-(x - m)^2 / 2 s^2)``.

    Linear parameters are solved for; centre and width follow by damped Gauss-Newton steps from the best
    of five widths.

    Args:
        offset: (n, w) place of the pixels from the expected centre [pixels].
        values: (n, w).
        used: (n, w) bool; three pixels at least in each row.
    """
    widest = 0.5 * float(np.abs(offset).max(initial=2.0))
    scale = np.sqrt((values**2 * used).sum(axis=1) / np.maximum(used.sum(axis=1), 1))
    scale = np.where(scale > 0, scale, 1.0)[:, None]
    values = np.where(used, values / scale, 0.0)
    used = used.astype(np.float64)
    centre = np.zeros(len(values))
    width = _best_start(offset, values, used, centre, widest)
    current = _residual(offset, values, used, centre, width)
    damping = np.full(len(values), 1e-2)
    active = np.arange(len(values))
    for _ in range(_ITERATIONS):
        if active.size == 0:
            break
        part = tuple(a[active] for a in (offset, values, used))
        step = _step(*part, centre[active], width[active], damping[active])
        tried_centre = np.clip(centre[active] + np.clip(step[0], -1.0, 1.0), -_FARTHEST, _FARTHEST)
        tried_width = width[active] * np.exp(np.clip(step[1], -0.4, 0.4))
        tried_width = np.clip(tried_width, NARROWEST, widest)
        tried = _residual(*part, tried_centre, tried_width)
        better = tried <= current[active]
        change = np.abs(tried_centre - centre[active]) + np.abs(tried_width / width[active] - 1.0)
        rows = active[better]
        centre[rows], width[rows] = tried_centre[better], tried_width[better]
        current[rows] = tried[better]
        damping[active] *= np.where(better, 0.2, 8.0)
        active = active[(change > _TOLERANCE) & (damping[active] < 1e6)]
    height = _linear(offset, values, used, centre, width)[0][:, 0]
    return GaussianFits(height * scale[:, 0], centre, width)


def _best_start(offset, values, used, centre, widest) -> np.ndarray:
    starts = np.minimum(_STARTS, widest)
    tried = [_residual(offset, values, used, centre, np.full(len(values), start)) for start in starts]
    return starts[np.argmin(tried, axis=0)] if len(values) else np.zeros(0)


def _linear(offset, values, used, centre, width) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, 3) A, c0, c1; (n, w) Gaussian; (n, w) residual of the used pixels."""
    gauss = np.exp(-0.5 * ((offset - centre[:, None]) / width[:, None]) ** 2)
    basis = np.stack([gauss * used, used, offset * used / np.abs(offset).max(initial=1.0)], axis=1)
    normal = basis @ basis.transpose(0, 2, 1) + 1e-10 * np.eye(3)
    solved = np.linalg.solve(normal, np.einsum("nkw,nw->nk", basis, values)[..., None])[..., 0]
    return solved, gauss, values - np.einsum("nk,nkw->nw", solved, basis)


def _residual(offset, values, used, centre, width) -> np.ndarray:
    return (_linear(offset, values, used, centre, width)[2] ** 2).sum(axis=1)


def _step(offset, values, used, centre, width, damping) -> np.ndarray:
    """(2, n) change of centre and of ln width."""
    linear, gauss, residual = _linear(offset, values, used, centre, width)
    place = (offset - centre[:, None]) / width[:, None]
    slope = linear[:, :1] * gauss * used
    basis = np.stack(
        [
            slope * place / width[:, None],
            slope * place**2,
            gauss * used,
            used,
            offset * used / np.abs(offset).max(initial=1.0),
        ],
        axis=1,
    )
    normal = basis @ basis.transpose(0, 2, 1)
    diagonal = np.einsum("nkk->nk", normal)
    normal = normal + np.eye(5) * (damping[:, None] * diagonal + 1e-10)[:, None, :]
    solved = np.linalg.solve(normal, np.einsum("nkw,nw->nk", basis, residual)[..., None])
    return solved[:, :2, 0].T
