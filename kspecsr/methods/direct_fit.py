"""Direct line fit: weighted, non-negative least squares for lines of prism spectra at known redshifts."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import convolve1d, gaussian_filter1d
from threadpoolctl import threadpool_limits

from data_pipeline.instrument import PRISM, Instrument, load_instrument
from data_pipeline.instrument.prism_pixels import JADES_SAMPLING, Sampling, sampling_of
from data_pipeline.lines import LineList, list_of, load_lines
from data_pipeline.lines.design import (
    BREAKS,
    LEAST_SEEN,
    STAR_STEP,
    break_steps,
    continuum_hats,
    stellar_absorption,
    tied_lines,
)
from data_pipeline.lines.least_squares import non_negative_solution
from data_pipeline.lines.profile import REACH, line_sigma, line_windows, scattered
from kspecsr.configuration.model import check_range
from kspecsr.methods.direct_fit_result import DirectFit, covered_pixels

_CHUNK = 32  # spectra at once: their columns fit into the cache
_NEIGHBOURHOOD = 1.5  # detector pixels of the local amplitude, a little less than the LSF's FWHM
# Prior variance of a line's flux in squares of its isolated error, to which the square of all light at its
# place is added: an upper limit loses 2 %, but no line outshines its blend.
_FAINTEST = 25.0
# Free line to which each of the K lines is tied, and its flux over that one's.
_ties = lru_cache(maxsize=4)(lambda count: tied_lines(list_of(count)))


@dataclass(frozen=True)
class DirectFitConfig:
    """Options of the direct line fit.

    Attributes:
        knots: hat functions of the continuum, evenly spaced in pixels.
        smoothness: weight of the continuum's second differences over that of its data: too small to be seen
            where there are data, it carries the continuum across gaps.
        systematic: error of the model as a share of the local amplitude (imperfect line-spread function, flat
            field), added to the quoted errors in quadrature.
        ridge: added to the unit diagonal of the lines' normal equations: shares flux evenly between lines
            that cannot be told apart.
        resolution_scale: factor on the tabulated resolving power; None for what reduced spectra show.
        zero_point_shift: by how many prism pixels lines lie redwards of where their redshift puts them.
        velocity_sigma: intrinsic width of the lines [km/s].
        correlated_noise: noise as reductions leave it on pixels of this size; False for independent pixels
            whose scatter is the quoted error.
        stellar_absorption: a column of the continuum for Balmer break and absorption lines of stars.

    Raises:
        ValueError: for a number out of its range, naming it.
    """

    knots: int = 30
    smoothness: float = 1e-4
    systematic: float = 0.02
    ridge: float = 3e-4
    resolution_scale: float | None = None
    zero_point_shift: float = 0.0
    velocity_sigma: float = 50.0
    correlated_noise: bool = True
    stellar_absorption: bool = True

    def __post_init__(self) -> None:
        check_range("direct fit, knots", self.knots, 4)
        for name in ("systematic", "velocity_sigma"):
            check_range(f"direct fit, {name}", getattr(self, name), 0.0)
        for name in ("smoothness", "ridge"):
            check_range(f"direct fit, {name}", getattr(self, name), 1e-12)
        if self.resolution_scale is not None:
            check_range("direct fit, resolution_scale", self.resolution_scale, 0.1, 10.0)
        check_range("direct fit, zero_point_shift", self.zero_point_shift, -10.0, 10.0)


def fit_prism_lines(
    flux: np.ndarray,
    error: np.ndarray,
    mask: np.ndarray,
    redshift: np.ndarray,
    config: DirectFitConfig = DirectFitConfig(),
    wavelength: np.ndarray | None = None,
    lines: LineList | None = None,
) -> DirectFit:
    """Fit all lines of a list together with a continuum.

    Line fluxes are not negative, and doublets have their tabulated ratios. The continuum is hat functions
    with steps at the Lyman, Balmer and 4000 Angstrom breaks, and what stars absorb. Errors come from the
    covariance of the noise of released pixels, propagated through the fit in which lines may be negative; in
    blends they are bounded by the total light of the blend.

    Args:
        flux: (B, P) any unit of f_lambda; not used where masked.
        error: (B, P) one sigma as quoted; not used where masked.
        mask: (B, P) bool, True = bad.
        redshift: (B,); nothing is fitted where it is NaN.
        config: options.
        wavelength: (P,) pixel centres [um] of a release; None for those that the networks take.
        lines: a shipped list; None for the first.

    Raises:
        ValueError: for shapes that do not match, or a redshift of -1 or less.
    """
    pixels = None if wavelength is None else np.asarray(wavelength, np.float64).tobytes()
    prism, sampling = _pixels(pixels, config.resolution_scale)
    count = len(load_lines() if lines is None else lines)
    flux, error, good, redshift = _checked(flux, error, mask, redshift, prism.wavelength.size)
    # threads cost more than they bring in products as small as those of one spectrum
    with threadpool_limits(1, user_api="blas"):
        parts = [
            _fit_chunk(flux[rows], error[rows], good[rows], redshift[rows], count, config, prism, sampling)
            for rows in (slice(start, start + _CHUNK) for start in range(0, max(len(flux), 1), _CHUNK))
        ]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return DirectFit(prism.wavelength, redshift, covered_pixels(good, sampling.step), **arrays)


@lru_cache(maxsize=8)
def _pixels(wavelength: bytes | None, scale: float | None) -> tuple[Instrument, Sampling]:
    prism = load_instrument(PRISM, scale=scale)
    if wavelength is None:
        return prism, JADES_SAMPLING
    sampling = sampling_of(np.frombuffer(wavelength))
    sharper = 1.0 if scale is not None else sampling.sharpness
    return prism.with_pixels(np.frombuffer(wavelength)).with_scale(prism.scale * sharper), sampling


def _checked(flux, error, mask, redshift, pixels) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Flux and error (0 and 1 where bad), good pixels, and redshifts (NaN where unknown)."""
    flux, error = np.asarray(flux, np.float64), np.asarray(error, np.float64)
    mask, redshift = np.asarray(mask, bool), np.array(redshift, np.float64)
    if not flux.shape == error.shape == mask.shape or flux.ndim != 2 or flux.shape[1] != pixels:
        raise ValueError(
            f"line fit: expected flux, error and mask of one shape (B, {pixels}), got {flux.shape}, "
            f"{error.shape} and {mask.shape}; one spectrum needs a leading axis, other pixels wavelengths"
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


@lru_cache(maxsize=8)
def _reach(instrument: Instrument, velocity_sigma: float) -> int:
    """Pixels on either side of a line that it can reach."""
    width = np.diff(instrument.bounds, axis=0)[0]
    sigma = line_sigma(instrument, instrument.wavelength, velocity_sigma, width)
    return int(np.ceil(REACH * (sigma / width).max())) + 1


def _places(instrument: Instrument, rest: np.ndarray, redshift: np.ndarray, shift: float) -> np.ndarray:
    """(B, K) wavelengths [um] at which rest wavelengths (K,) appear, ``shift`` pixels redwards."""
    wavelength = rest * (1.0 + redshift[:, None])
    return wavelength + shift * instrument.pixel_width(wavelength)


def _line_columns(
    good, redshift, count: int, config: DirectFitConfig, prism
) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the free lines (B, K', P), and which of the K lines are in range (B, K)."""
    ties = _ties(count)
    centre = _places(prism, list_of(count).wavelength, redshift, config.zero_point_shift)
    pixel, on_prism = prism.pixel_of(centre)
    half = _reach(prism, config.velocity_sigma)
    sigma = line_sigma(prism, centre, config.velocity_sigma)
    index, density = line_windows(prism.bounds, centre, sigma, pixel - half, 2 * half + 1)
    density *= on_prism[..., None]
    square, number = density**2, np.arange(len(good))[:, None, None]
    seen = np.einsum("bkw,bkw->bk", square, good[number, index])
    in_range = on_prism & (seen > LEAST_SEEN * square.sum(axis=-1))
    rows = number * ties.columns + ties.column[None, :, None]
    shape = (len(good) * ties.columns, good.shape[1])
    tied = scattered(rows, index, density * ties.share[:, None], shape)
    return tied.reshape(len(good), ties.columns, good.shape[1]), in_range


def _continuum_columns(redshift: np.ndarray, config: DirectFitConfig, prism: Instrument) -> np.ndarray:
    """(B, knots + breaks (+ 1, of stars), P)."""
    hats = continuum_hats(prism.wavelength.size, config.knots)
    at = _places(prism, np.array(BREAKS), redshift, config.zero_point_shift)
    steps = break_steps(prism.wavelength, at, line_sigma(prism, at, config.velocity_sigma))
    columns = [np.broadcast_to(hats, (len(redshift), *hats.shape)), steps]
    if config.stellar_absorption:
        start, table = _stars(prism)
        place = (np.log(prism.wavelength) - np.log1p(redshift)[:, None] - start) / STAR_STEP
        steps_of = np.arange(table.shape[1])
        stars = [np.interp(one, steps_of, row) for one, row in zip(place.T, table, strict=True)]
        columns.append(np.array(stars).T[:, None])
    return np.concatenate(columns, axis=1)


_stars = lru_cache(maxsize=8)(stellar_absorption)


def _root_weight(flux, error, good, config: DirectFitConfig, near: float) -> np.ndarray:
    """(B, P) inverse of the error, with the model's, a share of the amplitude ``near`` by; 0 where bad."""
    # Of flux and error together: where there is no signal the systematic error is a share of the noise, and
    # adds nothing.
    square = gaussian_filter1d(good * (flux**2 + error**2), near, axis=1, mode="constant")
    count = gaussian_filter1d(good.astype(float), near, axis=1, mode="constant")
    amplitude = square / np.maximum(count, 1e-6)
    return good / np.sqrt(error**2 + config.systematic**2 * amplitude)


def _continuum_normal(columns: np.ndarray, knots: int, smoothness: float) -> np.ndarray:
    """(B, C, C) normal equations of the continuum, regularised so that masked stretches are solvable.

    Columns (B, C, P) are whitened, hats first.
    """
    normal = columns @ columns.transpose(0, 2, 1)
    own = np.einsum("bii->bi", normal).copy()
    hats = own[:, :knots]
    floor = 1e-5 * hats.mean(axis=1, keepdims=True)
    floor = np.where(floor > 0, floor, 1.0)  # nothing is good
    # By the weakest of the three: a stiffness measured where the data are good would bend the continuum
    # across a gap's rim.
    nearby = np.minimum(np.minimum(hats[:, :-2], hats[:, 1:-1]), hats[:, 2:])
    bend = np.diff(np.eye(knots), n=2, axis=0)  # (knots - 2, knots)
    stiff = smoothness * np.maximum(nearby, floor)
    normal[:, :knots, :knots] += (bend.T * stiff[:, None, :]) @ bend
    # So small that no digit of a fit changes; enough that a masked stretch has an inverse.
    diagonal = 1e-8 * np.maximum(own, floor)
    diagonal[:, knots:] = np.where(own[:, knots:] > 0, 1e-6 * own[:, knots:], 1.0)
    normal += np.eye(normal.shape[-1]) * diagonal[:, None, :]
    return normal


def _fit_chunk(
    flux, error, good, redshift, count: int, config: DirectFitConfig, prism: Instrument, sampling: Sampling
) -> dict[str, np.ndarray]:
    """The arrays of `DirectFit` for some spectra."""
    fitted = ~np.isnan(redshift) & good.any(axis=1)
    redshift = np.where(fitted, redshift, 0.0)
    # fluxes of order one, whatever their unit
    scale = np.sum(error * good, axis=1, keepdims=True) / np.maximum(good.sum(axis=1, keepdims=True), 1)
    scale = np.where(scale > 0, scale, 1.0)
    flux, error = flux / scale, error / scale
    root = _root_weight(flux, error, good, config, _NEIGHBOURHOOD / sampling.step)
    tied, in_range = _line_columns(good, redshift, count, config, prism)
    continuum = _continuum_columns(redshift, config, prism)
    lines, line_covariance, knots, knot_covariance = _solved(
        flux * root, tied * root[:, None], continuum * root[:, None], config, sampling
    )
    model_continuum = np.einsum("bc,bcp->bp", knots, continuum)
    model = model_continuum + np.einsum("bk,bkp->bp", lines, tied)
    spread = np.einsum("bcp,bcp->bp", continuum, knot_covariance @ continuum)
    pixels = np.maximum(good.sum(axis=1), 1)
    variance = sampling.variance if config.correlated_noise else 1.0
    chi_square = np.sum(good * ((flux - model) / error) ** 2, axis=1) / pixels / variance
    column, factor = _ties(count).column, _ties(count).share
    measured = in_range & fitted[:, None]
    pair = measured[:, :, None] & measured[:, None, :]
    covariance = line_covariance[:, column[:, None], column] * np.outer(factor, factor)
    covariance *= scale[..., None] ** 2
    return {
        "line_flux": np.where(measured, lines[:, column] * factor * scale, np.nan),
        "line_flux_error": np.where(measured, np.sqrt(np.einsum("bii->bi", covariance)), np.nan),
        "line_in_range": measured,
        "line_covariance": np.where(pair, covariance, np.nan),
        "continuum": np.where(fitted[:, None], model_continuum * scale, np.nan),
        "continuum_error": np.where(fitted[:, None], np.sqrt(np.maximum(spread, 0.0)) * scale, np.nan),
        "model": np.where(fitted[:, None], model * scale, np.nan),
        "chi_square": np.where(fitted, chi_square, np.nan),
    }


def _solved(flux, lines, continuum, config: DirectFitConfig, sampling: Sampling) -> tuple[np.ndarray, ...]:
    """Solve whitened equations: flux (B, P), lines (B, K', P), continuum (B, C, P).

    Fluxes of the free lines (B, K') and coefficients of the continuum (B, C), each with its covariance.
    """
    norm = np.sqrt(np.einsum("bkp,bkp->bk", lines, lines))
    per_norm = np.where(norm > 0, 1.0 / np.where(norm > 0, norm, 1.0), 0.0)
    lines = lines * per_norm[..., None]
    # block elimination: take the continuum out of the line columns, so that what is left is orthogonal to it
    inverse = np.linalg.inv(_continuum_normal(continuum, config.knots, config.smoothness))
    cross = continuum @ lines.transpose(0, 2, 1)  # (B, C, K')
    share = inverse @ cross
    # What the continuum can say as well is not a line's: this is the same as solving for both, at a third of
    # the size.
    left = lines - share.transpose(0, 2, 1) @ continuum
    unused = np.eye(norm.shape[1]) * (norm == 0)[:, None, :]
    normal = left @ lines.transpose(0, 2, 1)
    # Rounding leaves it slightly lopsided, which the factorisation of a pivoting step takes badly.
    normal = 0.5 * (normal + normal.transpose(0, 2, 1)) + unused
    right = np.einsum("bkp,bp->bk", left, flux)
    ridge = config.ridge * np.eye(norm.shape[1])
    x = non_negative_solution(normal + ridge, right)
    along = np.einsum("bcp,bp->bc", continuum, flux) - np.einsum("bck,bk->bc", cross, x)
    # Not of the solution with lines held at 0: a flux that is cut off there has an error all the same.
    covariance = _line_covariance(normal, right, left, sampling if config.correlated_noise else None)
    knots = np.einsum("bcd,bd->bc", inverse, along)
    low_frequency = sampling.low_frequency if config.correlated_noise else 1.0
    knot_covariance = low_frequency * inverse + share @ covariance @ share.transpose(0, 2, 1)
    return x * per_norm, covariance * per_norm[:, :, None] * per_norm[:, None, :], knots, knot_covariance


def _line_covariance(normal, right, left, sampling: Sampling | None) -> np.ndarray:
    """(B, K', K') of columns with unit norm, lines of either sign; see `_FAINTEST`.

    From the normal equations without the continuum, their right hand side, and what the continuum leaves of
    the lines (B, K', P).
    """
    alone = np.maximum(right, 0.0) / np.maximum(np.einsum("bii->bi", normal), 1e-3)
    prior = np.eye(right.shape[1]) * (1.0 / (_FAINTEST + alone**2))[:, None, :]
    inverse = np.linalg.inv(normal + prior)
    seen = left
    if sampling is not None:
        seen = convolve1d(left, sampling.kernel, axis=-1, mode="constant")
    seen = seen @ left.transpose(0, 2, 1)
    # A sandwich: weights as if pixels were independent, errors as they are.
    return inverse @ (0.5 * (seen + seen.transpose(0, 2, 1)) + prior) @ inverse
