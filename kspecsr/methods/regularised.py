"""Tikhonov and Wiener: least squares with a quadratic penalty, for values at two nodes per prism pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse
from scipy.linalg import cho_solve_banded, cholesky_banded

from data_pipeline.instrument.prism_pixels import LAG_COVARIANCE, LOW_FREQUENCY_VARIANCE, quadratic_form
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.resampling import cubic_interpolation
from kspecsr.methods.baseline import FEWEST_PIXELS, Baseline, PrismView, prism_view

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
        """Errors of node values (B, n) as errors (B, N), linear between the correlated nodes."""
        place = self.view.position[self.view.inside]
        return np.stack([np.interp(place, self.position, row) for row in error])


@lru_cache(maxsize=4)
def nodes_for(grid: UnifiedGrid) -> Nodes:
    """The basis for a unified grid; cached."""
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
        # LAPACK's upper banded form: element (i, j) lies in row u + i - j of column j.
        rows.append((width + index[i] - index[j]) * count + index[j])
        columns.append(np.full(i.size, pixel))
        values.append(value[i] * value[j])
    shape = ((width + 1) * count, pixels)
    if not rows:
        return width, sparse.csr_matrix(shape)
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return width, sparse.csr_matrix(entries, shape=shape)


SPACING = 48  # prism pixels


@dataclass(frozen=True, eq=False)
class Probing:
    """Impulses in every 48th prism pixel at once.

    A reconstruction answers an impulse within a few line-spread functions. The answers to impulses 48
    pixels apart do not meet, so that 48 answers give the response to all P pixels: at each place that of
    the 48 pixels around it. What is farther than 24 pixels away is lost; that changes errors only for
    regularisations so strong that they average over tens of pixels.

    Attributes:
        pixels: P.
        index: (m, 48) prism pixel at each place of the output and in order; outside 0 to P - 1 where
            ``inside`` is False.
        inside: (m, 48) bool.
    """

    pixels: int
    index: np.ndarray
    inside: np.ndarray

    @classmethod
    def around(cls, position: np.ndarray, pixels: int) -> Probing:
        """Windows around the places (m,) of the output [prism pixels]."""
        index = np.round(position).astype(int)[:, None] - SPACING // 2 + np.arange(SPACING)
        return cls(pixels, index, (index >= 0) & (index < pixels))

    def response(self, answers: np.ndarray) -> np.ndarray:
        """Response (m, 48) to the pixels of each window.

        Args:
            answers: (m, 48) output for impulses in the pixels q, q + 48, q + 96, ... for q = 0 to 47.
        """
        return np.where(self.inside, np.take_along_axis(answers, self.index % SPACING, axis=1), 0.0)

    def error(self, answers: np.ndarray, pixel_error: np.ndarray) -> np.ndarray:
        """One-sigma error (m,) from quoted errors (P,), with the correlation of the pixels' noise."""
        row = self.response(answers) * pixel_error[np.clip(self.index, 0, self.pixels - 1)]
        return np.sqrt(np.maximum(quadratic_form(row), 0.0))

    def variance_weights(self, answers: np.ndarray) -> np.ndarray:
        """Weights (m, 48) of the squared quoted errors of each window, where these change little."""
        row = self.response(answers)
        correlated = LAG_COVARIANCE[0] * row
        for lag, covariance in enumerate(LAG_COVARIANCE[1:], start=1):
            correlated[:, lag:] += covariance * row[:, :-lag]
            correlated[:, :-lag] += covariance * row[:, lag:]
        return row * correlated


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
    flux: np.ndarray, error: np.ndarray, weight: np.ndarray, penalty: np.ndarray, nodes: Nodes
) -> tuple[np.ndarray, np.ndarray]:
    """Minimises ``sum_p w_p (d_p - (M c)_p)^2 + c^T R c`` over node values c.

    The error is that of the linear estimator ``(M^T W M + R)^-1 M^T W d`` under the pixels' correlated
    noise: scatter over repeated observations, without what the penalty takes from or adds to the truth.

    Flux, quoted error and weight are (B, P), the penalty the upper bands (B, k + 1, n) of R, k at most
    ``nodes.width``. Flux and error on the unified grid (B, N) are NaN for spectra with too few pixels that
    have weight.
    """
    bands = nodes.normal_bands(weight)
    # The main diagonal is the last row of both, however many others they have.
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
        # Row by row: LAPACK has no batch of banded systems, and each has its own weights.
        factor = cholesky_banded(bands[row], overwrite_ab=True, check_finite=False)
        solved = cho_solve_banded((factor, False), sides.T, overwrite_b=True, check_finite=False)
        values[row] = solved[:, SPACING]
        sigma[row] = probing.error(solved[:, :SPACING], np.where(weight[row] > 0, error[row], 0.0))
    return nodes.on_grid(values), nodes.error_on_grid(sigma)


_FAINTEST = 0.1  # signal power in units of the noise's, below which an excess cannot be told from zero


@dataclass(frozen=True)
class Wiener(Baseline):
    """``K M^T (M K M^T + N)^-1 d`` with K = (amplitude S)^2 exp(-|u - u'| / length) on the nodes.

    u is the place in prism pixels and S the spectrum's own root-mean-square signal, from its power in
    excess of the noise, weighted by 1 / error^2; so the result scales with its input and adapts to S/N.
    N is white with 1.67 times the quoted variances: the power that the correlated noise has on
    the scales of several pixels that the line-spread function passes. It is solved in the equal form
    ``(M^T N^-1 M + K^-1)^-1 M^T N^-1 d``, in which everything is banded. Errors are propagated with
    the noise's true covariance, S being taken as given.

    Attributes:
        amplitude: standard deviation of the prior in units of S.
        length: correlation length of the prior [prism pixels].
    """

    amplitude: float = 3.0
    length: float = 100.0
    name = "wiener"

    def __post_init__(self) -> None:
        for name in ("amplitude", "length"):
            if not getattr(self, name) > 0:
                raise ValueError(f"wiener: expected a {name} above 0, got {getattr(self, name)!r}")

    def _reconstruct(self, flux, error, mask, grid):
        nodes = nodes_for(grid)
        weight = np.where(~mask & nodes.view.usable, error**-2.0, 0.0)
        variance = self.amplitude**2 * signal_power(flux, weight)
        penalty = inverse_covariance(nodes.position.size, self.length) / variance[:, None, None]
        return regularised_solution(flux, error, weight / LOW_FREQUENCY_VARIANCE, penalty, nodes)


def signal_power(flux: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean square S^2 (B,) of the signal: weighted power less that of the noise, and at least a tenth of it.

    The weights (B, P) are 1 / quoted variance, or 0.
    """
    total = np.maximum(weight.sum(axis=1), np.finfo(float).tiny)
    noise = np.maximum(LAG_COVARIANCE[0] * (weight > 0).sum(axis=1), 1.0) / total
    return np.maximum((weight * flux**2).sum(axis=1) / total - noise, _FAINTEST * noise)


def inverse_covariance(count: int, length: float) -> np.ndarray:
    """Upper bands (2, n) of the inverse of exp(-|u_i - u_j| / length) on the nodes."""
    step = np.exp(-STEP / length)
    bands = np.empty((2, count))
    bands[0] = -step
    bands[1] = 1.0 + step**2
    # An exponential covariance is that of a Markov chain, whose inverse is tridiagonal; the ends have one
    # neighbour.
    bands[1, [0, -1]] = 1.0
    return bands / (1.0 - step**2)


@dataclass(frozen=True)
class Tikhonov(Baseline):
    """Minimises ``sum_p (d_p - (A f)_p)^2 / error_p^2 + strength w integral (f'')^2 du``.

    The curvature f'' is along u, the place in prism pixels, in which the line-spread function is equally
    wide everywhere. w is the spectrum's median of 1 / error^2, so that the result scales with its input
    and noisy ends are smoothed more. f lives on two nodes per prism pixel. Quoted errors weight the pixels
    as if independent; errors are propagated with their true covariance.

    Attributes:
        strength: lambda; at 1 the penalty equals the data's weight at wavelengths of 6.3 prism pixels.
    """

    strength: float = 0.1
    name = "tikhonov"

    def __post_init__(self) -> None:
        if not self.strength > 0:
            raise ValueError(f"tikhonov: expected a strength above 0, got {self.strength!r}")

    def _reconstruct(self, flux, error, mask, grid):
        nodes = nodes_for(grid)
        weight = np.where(~mask & nodes.view.usable, error**-2.0, 0.0)
        penalty = self.strength * median_weight(weight)[:, None, None] * _curvature(nodes.position.size)
        return regularised_solution(flux, error, weight, penalty, nodes)


def median_weight(weight: np.ndarray) -> np.ndarray:
    """Median (B,) of the weights (B, P) that are not 0; 1 without any."""
    some = (weight > 0).any(axis=1)
    middle = np.ones(len(weight))
    # The median, since a few bright pixels with tiny errors would carry a mean.
    middle[some] = np.nanmedian(np.where(weight[some] > 0, weight[some], np.nan), axis=1)
    return middle


@lru_cache(maxsize=4)
def _curvature(count: int) -> np.ndarray:
    """Upper bands (3, n) of D^T D / step^3: the integral of the squared second derivative over u."""
    difference = np.zeros((3, count))
    middle = np.arange(1, count - 1)
    for offset, value in ((-1, 1.0), (0, -2.0), (1, 1.0)):
        for other, product in ((-1, 1.0), (0, -2.0), (1, 1.0)):
            if other >= offset:
                np.add.at(difference, (2 - (other - offset), middle + other), value * product)
    return difference / STEP**3
