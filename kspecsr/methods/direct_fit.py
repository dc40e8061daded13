"""Weighted, non-negative least squares for the lines of prism spectra at known redshifts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import convolve1d, gaussian_filter1d
from scipy.optimize import nnls

from data_pipeline.instrument.prism_pixels import LAG_COVARIANCE, LOW_FREQUENCY_VARIANCE
from data_pipeline.lines import load_lines
from data_pipeline.lines.design import BREAKS, break_steps, continuum_knots, tied_lines
from kspecsr.methods.direct_fit_result import DirectFit
from kspecsr.methods.prism_optics import DirectFitConfig, prism_optics, scattered

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


_FULL_EXCHANGES = 3  # that may fail to reduce the number of violations before single ones take over
_MOST_STEPS = 60  # problems that are left then are solved one by one
_TOLERANCE = 1e-10


def non_negative_solution(normal: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Minimises x S x / 2 - r x over x >= 0, exactly.

    Block principal pivoting (Kim & Park 2011, SIAM J. Sci. Comput. 33, 3261): all variables that violate the
    optimality conditions change sides at once; when that stops helping, the last of them alone.

    Args:
        normal: (B, n, n) S, positive definite.
        right: (B, n) r.

    Returns:
        (B, n).
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
    for row in active:
        lower = np.linalg.cholesky(normal[row])
        solution[row] = nnls(lower.T, np.linalg.solve(lower, right[row]))[0]
    return solution


def _held_at_zero(S: np.ndarray, r: np.ndarray, free: np.ndarray) -> np.ndarray:
    """(B, n) solution of S x = r in the free variables, the others 0."""
    identity = np.eye(S.shape[-1])
    within = S * (free[:, :, None] & free[:, None, :]) + identity * ~free[:, None, :]
    return np.linalg.solve(within, (r * free)[..., None])[..., 0]


_CHUNK = 32  # spectra at once: their columns fit into the cache
_NEIGHBOURHOOD = 2.5  # pixels over which the local amplitude is averaged, a little less than the LSF's FWHM
_LEAST_SEEN = 0.1  # share of a line's squared profile on good pixels below which it is not measured
_BRIDGED = 3  # bad pixels in a row that the line-spread function bridges: its FWHM
# What is thought of a line's flux before it is fitted has this variance, in its isolated errors squared, and
# the square of all light at its place on top: an upper limit loses 2 %, but no line outshines its blend.
_FAINTEST = 25.0


def fit_prism_lines(
    flux: np.ndarray,
    error: np.ndarray,
    mask: np.ndarray,
    redshift: np.ndarray,
    config: DirectFitConfig = DirectFitConfig(),  # noqa: B008, frozen
) -> DirectFit:
    """Fits all lines of the shipped list together with a continuum.

    Line fluxes are not negative, and doublets have their tabulated ratios. The continuum is hat functions
    with steps at the Lyman, Balmer and 4000 Angstrom breaks. Errors come from the covariance of the noise of
    released pixels, propagated through the fit in which lines may be negative; in blends they are bounded by
    the light that there is to share.

    Args:
        flux: (B, P) on the prism's pixels, any unit of f_lambda; not used where masked.
        error: (B, P) one sigma as quoted; not used where masked.
        mask: (B, P) bool, True = bad.
        redshift: (B,); nothing is fitted where it is NaN.
        config: options.

    Raises:
        ValueError: for shapes that do not belong together, or a redshift of -1 or less.
    """
    flux, error, good, redshift = _checked(flux, error, mask, redshift)
    parts = [
        _fit_chunk(flux[rows], error[rows], good[rows], redshift[rows], config)
        for rows in (slice(start, start + _CHUNK) for start in range(0, max(len(flux), 1), _CHUNK))
    ]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return DirectFit(redshift=redshift, covered=_covered(good), **arrays)


def _checked(flux, error, mask, redshift) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Flux and error, 0 and 1 where bad; which pixels are good; redshifts, NaN where there is none."""
    flux, error = np.asarray(flux, np.float64), np.asarray(error, np.float64)
    mask, redshift = np.asarray(mask, bool), np.array(redshift, np.float64)
    pixels = prism_optics(DirectFitConfig()).wavelength.size
    if not flux.shape == error.shape == mask.shape or flux.ndim != 2 or flux.shape[1] != pixels:
        raise ValueError(
            f"line fit: expected flux, error and mask of one shape (B, {pixels}), got {flux.shape}, "
            f"{error.shape} and {mask.shape}; a single spectrum needs a leading axis, one on other pixels "
            "kspecsr.results.prism_input.prism_input"
        )
    if redshift.shape != flux.shape[:1]:
        raise ValueError(
            f"line fit: expected one redshift for each of {len(flux)} spectra, got shape {redshift.shape}"
        )
    redshift[~np.isfinite(redshift)] = np.nan
    if (redshift <= -1).any():
        raise ValueError(f"line fit: expected redshifts above -1, got {np.nanmin(redshift):g}")
    good = ~mask & np.isfinite(flux) & np.isfinite(error) & (error > 0)
    return np.where(good, flux, 0.0), np.where(good, error, 1.0), good, redshift


@lru_cache(maxsize=1)
def _ties() -> tuple[np.ndarray, np.ndarray]:
    """Free line to which each of the K lines is tied, and its flux over that one's."""
    tie = tied_lines(load_lines())
    return tie.argmax(axis=1), tie.max(axis=1)


@dataclass(frozen=True, eq=False)
class _Lines:
    """Columns of the lines: ``tied`` (B, K', P), and which of the K lines are ``in_range`` (B, K)."""

    tied: np.ndarray
    in_range: np.ndarray


def _line_columns(good: np.ndarray, redshift: np.ndarray, config: DirectFitConfig) -> _Lines:
    optics, (column, factor) = prism_optics(config), _ties()
    free = int(column.max()) + 1
    centre = optics.place(load_lines().wavelength, redshift)
    on_prism = (centre >= optics.edges[0]) & (centre <= optics.edges[-1])
    window = optics.lines(centre)
    density = window.density * on_prism[..., None]
    square = density**2
    seen = np.einsum("bkw,bkw->bk", square, good[np.arange(len(good))[:, None, None], window.index])
    in_range = on_prism & (seen > _LEAST_SEEN * square.sum(axis=-1))
    rows = np.arange(len(good))[:, None, None] * free + column[None, :, None]
    shape = (len(good) * free, good.shape[1])
    tied = scattered(rows, window.index, density * factor[:, None], shape)
    return _Lines(tied.reshape(len(good), free, good.shape[1]), in_range)


def _continuum_columns(redshift: np.ndarray, config: DirectFitConfig) -> np.ndarray:
    """(B, knots + breaks, P)."""
    optics = prism_optics(config)
    hats = continuum_knots(optics.wavelength.size, config.knots)
    at = optics.place(np.array(BREAKS), redshift)
    steps = break_steps(optics.wavelength, at, optics.sigma(at))
    return np.concatenate([np.broadcast_to(hats, (len(redshift), *hats.shape)), steps], axis=1)


def _root_weight(flux, error, good, config: DirectFitConfig) -> np.ndarray:
    """(B, P) one over the error, the model's included; 0 where bad."""
    square = gaussian_filter1d(good * (flux**2 + error**2), _NEIGHBOURHOOD, axis=1, mode="constant")
    count = gaussian_filter1d(good.astype(float), _NEIGHBOURHOOD, axis=1, mode="constant")
    amplitude = square / np.maximum(count, 1e-6)
    return good / np.sqrt(error**2 + config.systematic**2 * amplitude)


def _continuum_normal(columns: np.ndarray, knots: int, smoothness: float) -> np.ndarray:
    """(B, C, C) normal equations of the continuum, solvable whatever is masked.

    Args:
        columns: (B, C, P), whitened; hats first.
        knots: number of hats.
        smoothness: see `DirectFitConfig`.
    """
    normal = over_pixels(columns, columns)
    own = np.einsum("bii->bi", normal).copy()
    hats = own[:, :knots]
    floor = 1e-5 * hats.mean(axis=1, keepdims=True)
    floor = np.where(floor > 0, floor, 1.0)  # nothing is good
    nearby = np.minimum(np.minimum(hats[:, :-2], hats[:, 1:-1]), hats[:, 2:])
    bend = np.diff(np.eye(knots), n=2, axis=0)  # (knots - 2, knots)
    stiff = smoothness * np.maximum(nearby, floor)
    normal[:, :knots, :knots] += (bend.T * stiff[:, None, :]) @ bend
    diagonal = 1e-8 * np.maximum(own, floor)
    diagonal[:, knots:] = np.where(own[:, knots:] > 0, 1e-6 * own[:, knots:], 1.0)
    normal += np.eye(normal.shape[-1]) * diagonal[:, None, :]
    return normal


def _fit_chunk(flux, error, good, redshift, config: DirectFitConfig) -> dict[str, np.ndarray]:
    """The arrays of `DirectFit` for some spectra."""
    fitted = ~np.isnan(redshift) & good.any(axis=1)
    redshift = np.where(fitted, redshift, 0.0)
    # numbers of order one, whatever the unit
    scale = np.sum(error * good, axis=1, keepdims=True) / np.maximum(good.sum(axis=1, keepdims=True), 1)
    scale = np.where(scale > 0, scale, 1.0)
    flux, error = flux / scale, error / scale
    root = _root_weight(flux, error, good, config)
    lines, continuum = _line_columns(good, redshift, config), _continuum_columns(redshift, config)
    solved = _solved(flux * root, lines.tied * root[:, None], continuum * root[:, None], config)
    model_continuum = np.einsum("bc,bcp->bp", solved.knots, continuum)
    model = model_continuum + np.einsum("bk,bkp->bp", solved.lines, lines.tied)
    spread = np.einsum("bcp,bcp->bp", continuum, onto_pixels(solved.knot_covariance, continuum))
    pixels = np.maximum(good.sum(axis=1), 1)
    variance = LAG_COVARIANCE[0] if config.correlated_noise else 1.0
    chi_square = np.sum(good * ((flux - model) / error) ** 2, axis=1) / pixels / variance
    (column, factor), measured = _ties(), lines.in_range & fitted[:, None]
    pair = measured[:, :, None] & measured[:, None, :]
    covariance = solved.line_covariance[:, column[:, None], column] * np.outer(factor, factor)
    covariance *= scale[..., None] ** 2
    there = fitted[:, None]
    return {
        "line_flux": np.where(measured, solved.lines[:, column] * factor * scale, np.nan),
        "line_flux_error": np.where(measured, np.sqrt(np.einsum("bii->bi", covariance)), np.nan),
        "line_in_range": measured,
        "line_covariance": np.where(pair, covariance, np.nan),
        "continuum": np.where(there, model_continuum * scale, np.nan),
        "continuum_error": np.where(there, np.sqrt(np.maximum(spread, 0.0)) * scale, np.nan),
        "model": np.where(there, model * scale, np.nan),
        "chi_square": np.where(fitted, chi_square, np.nan),
    }


@dataclass(frozen=True, eq=False)
class _Solution:
    """Fluxes of free lines (B, K') and coefficients of the continuum (B, C), with their covariances."""

    lines: np.ndarray
    line_covariance: np.ndarray
    knots: np.ndarray
    knot_covariance: np.ndarray


def _solved(flux, lines, continuum, config: DirectFitConfig) -> _Solution:
    """Solves whitened equations: flux (B, P), lines (B, K', P), continuum (B, C, P)."""
    norm = np.sqrt(np.einsum("bkp,bkp->bk", lines, lines))
    per_norm = np.where(norm > 0, 1.0 / np.where(norm > 0, norm, 1.0), 0.0)
    lines = lines * per_norm[..., None]
    # the continuum is taken out of the lines: what is left of them is orthogonal to it
    inverse = np.linalg.inv(_continuum_normal(continuum, config.knots, config.smoothness))
    cross = over_pixels(continuum, lines)  # (B, C, K')
    share = inverse @ cross
    left = lines - onto_pixels(share.transpose(0, 2, 1), continuum)
    unused = np.eye(norm.shape[1]) * (norm == 0)[:, None, :]
    normal = over_pixels(left, lines)
    normal = 0.5 * (normal + normal.transpose(0, 2, 1)) + unused
    right = np.einsum("bkp,bp->bk", left, flux)
    ridge = config.ridge * np.eye(norm.shape[1])
    x = non_negative_solution(normal + ridge, right)
    along = np.einsum("bcp,bp->bc", continuum, flux) - np.einsum("bck,bk->bc", cross, x)
    covariance = _line_covariance(normal, right, left, config)
    knots = np.einsum("bcd,bd->bc", inverse, along)
    low_frequency = LOW_FREQUENCY_VARIANCE if config.correlated_noise else 1.0
    knot_covariance = low_frequency * inverse + share @ covariance @ share.transpose(0, 2, 1)
    return _Solution(
        x * per_norm, covariance * per_norm[:, :, None] * per_norm[:, None, :], knots, knot_covariance
    )


def _line_covariance(normal, right, left, config: DirectFitConfig) -> np.ndarray:
    """(B, K', K') of columns with unit norm, lines of either sign; see `_FAINTEST`.

    Args:
        normal: (B, K', K') normal equations without the continuum.
        right: (B, K') their right hand side.
        left: (B, K', P) what the continuum leaves of the lines.
        config: options.
    """
    alone = np.maximum(right, 0.0) / np.maximum(np.einsum("bii->bi", normal), 1e-3)
    prior = np.eye(right.shape[1]) * (1.0 / (_FAINTEST + alone**2))[:, None, :]
    inverse = np.linalg.inv(normal + prior)
    seen = left
    if config.correlated_noise:
        kernel = np.concatenate([LAG_COVARIANCE[:0:-1], LAG_COVARIANCE])
        seen = convolve1d(left, kernel, axis=-1, mode="constant")
    noise = over_pixels(seen, left)
    return inverse @ (0.5 * (noise + noise.transpose(0, 2, 1)) + prior) @ inverse


def _covered(good: np.ndarray) -> np.ndarray:
    """(B, P) bool: good, or between good pixels that are near enough."""
    place = np.arange(good.shape[1])
    before = np.maximum.accumulate(np.where(good, place, -1), axis=1)
    after = np.minimum.accumulate(np.where(good, place, good.shape[1])[:, ::-1], axis=1)[:, ::-1]
    inside = (before >= 0) & (after < good.shape[1])
    return inside & (after - before - 1 <= _BRIDGED)
