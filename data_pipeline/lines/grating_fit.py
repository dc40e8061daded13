"""Line fluxes of grating spectra at a known redshift, by linear least squares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.linalg import block_diag
from scipy.optimize import minimize_scalar

from data_pipeline.instrument import SPEED_OF_LIGHT, Instrument
from data_pipeline.lines.design import SharedFluxes, hat_functions
from data_pipeline.lines.least_squares import linear_fit
from data_pipeline.lines.line_list import LineList, load_lines

_WIDTH_STEP = 20.0  # km/s, over which the change of the fluxes with the width is measured
_COVERED = 0.8  # share of a line's central FWHM that must fall on good pixels
_COINCIDENT = 0.25  # FWHM between unrelated lines below which they share one flux
_DENSITY_DEPENDENT = ("[OII]", "[SII]_6", "CIII]", "[NI]")  # doublets whose ratio is no constant


@dataclass(frozen=True)
class LineFitConfig:
    """Options of the fit to gratings.

    Attributes:
        velocity_widths: one-sigma widths tried [km/s]; the best is refined between its neighbours.
        velocity_prior: median of a lognormal prior on the width [km/s]: faint lines do not choose their own.
        velocity_prior_scatter: its scatter [natural log].
        half_window: continuum and lines are fitted within this distance of a line [km/s].
        continuum_knots: knots of the piecewise linear continuum per window width of ``2 * half_window``.
        blend: lines closer than this many FWHM cannot be told apart and share a fixed ratio.
        tie: partners with a fixed ratio are tied when closer than this relative distance.
    """

    velocity_widths: tuple[float, ...] = (0.0, 120.0, 250.0, 500.0, 1000.0, 1600.0)
    velocity_prior: float = 70.0
    velocity_prior_scatter: float = 0.6
    half_window: float = 3000.0
    continuum_knots: int = 2
    blend: float = 0.8
    tie: float = 0.06


@dataclass(frozen=True)
class LineFluxes:
    """Fitted lines, in the order of the shipped list.

    Attributes:
        names: n lines.
        flux: (n,) [erg/s/cm2]; NaN where not covered. Negative values are noise, and kept.
        error: (n,) one-sigma errors [erg/s/cm2].
        covered: (n,) bool: the line lies on good pixels.
        tied_to: (n,) index of the line that carries the free parameter; itself where free.
        velocity_width: one-sigma width adopted [km/s].
    """

    names: tuple[str, ...]
    flux: np.ndarray
    error: np.ndarray
    covered: np.ndarray
    tied_to: np.ndarray
    velocity_width: float

    def signal_to_noise(self, *names: str) -> float:
        """S/N of the sum of some lines (tied lines count as one); NaN where none is covered."""
        index = [self.names.index(name) for name in names]
        index = [i for i in index if self.covered[i]]
        if not index:
            return float("nan")
        total = sum(self.flux[i] for i in index)
        variance = 0.0
        for head in {int(self.tied_to[i]) for i in index}:
            variance += sum(self.error[i] for i in index if self.tied_to[i] == head) ** 2
        return float(total / np.sqrt(variance))


def unfitted_lines() -> LineFluxes:
    """The result for a spectrum without a redshift: nothing covered, every flux NaN."""
    lines = load_lines()
    missing = np.full(len(lines), np.nan)
    nothing = np.zeros(len(lines), bool)
    return LineFluxes(lines.names, missing, missing.copy(), nothing, np.arange(len(lines)), 0.0)


@dataclass(frozen=True)
class FittedArm:
    """One grating on its own pixels: flux and error [erg/s/cm2/A] on the common scale, mask True = bad."""

    instrument: Instrument
    flux: np.ndarray
    error: np.ndarray
    mask: np.ndarray


def fit_lines(arms: Sequence[FittedArm], redshift: float, config: LineFitConfig | None = None) -> LineFluxes:
    """Fits all lines of the shipped list: Gaussians of the instrument's width on a local linear continuum.

    All arms are fitted together on their native pixels, where errors are nearly independent: a line in an
    overlap has one flux and each arm its own profile and continuum. The correlation of neighbouring pixels
    that the residuals show enlarges the errors.

    Args:
        arms: the gratings.
        redshift: known redshift.
        config: None for the default.

    Raises:
        ValueError: for a redshift that is not finite or below -1.
    """
    if not np.isfinite(redshift) or redshift <= -1:
        raise ValueError(
            f"expected a finite redshift above -1, got {redshift}; leave the object out or give one"
        )
    lines, config = load_lines(), config or LineFitConfig()
    centre = lines.wavelength * (1.0 + redshift)
    seen = np.array([_covered(arm, centre) for arm in arms])
    covered = seen.any(axis=0)
    fwhm = np.min(
        [np.where(s, arm.instrument.fwhm(centre), np.inf) for s, arm in zip(seen, arms, strict=True)], 0
    )
    groups, tied_to = _tie(lines, centre, covered, fwhm, config)
    flux, error = np.full((2, len(lines)), np.nan)
    if not groups:
        return LineFluxes(lines.names, flux, error, covered, tied_to, 0.0)
    shared = SharedFluxes.of(groups)
    problem = _Problem.around(arms, shared, redshift, centre[covered], config)
    solution, width = _best_width(problem, config)
    # The members of a doublet get their shares of the free flux, and of its error: they are not independent.
    flux[shared.line] = solution.value[shared.column] * shared.share
    # For a correlation with the nearest neighbour alone, as rectification leaves it: variance of a sum over
    # several pixels.
    inflation = np.sqrt(1.0 + 2.0 * solution.correlation)
    error[shared.line] = solution.deviation[shared.column] * shared.share * inflation
    return LineFluxes(lines.names, flux, error, covered, tied_to, width)


@dataclass(frozen=True)
class _Solution:
    """Free fluxes [erg/s/cm2] and their errors; ``correlation`` of residuals of neighbours, 0 to 1."""

    value: np.ndarray
    deviation: np.ndarray
    chi_square: float
    correlation: float


@dataclass(frozen=True, eq=False)
class _Problem:
    """The good pixels of all arms near lines, m together, and the continuum under them.

    Attributes:
        instruments: of the arms.
        near: for each arm (n,) bool, which of its pixels take part.
        data, sigma: (m,) flux density and its error [erg/s/cm2/A].
        continuum: (c, m) columns of the continuum, each of one arm.
        shared: lines and their free fluxes.
        redshift: of the lines.
    """

    instruments: list[Instrument]
    near: list[np.ndarray]
    data: np.ndarray
    sigma: np.ndarray
    continuum: np.ndarray
    shared: SharedFluxes
    redshift: float

    @classmethod
    def around(cls, arms, shared, redshift, centre, config: LineFitConfig) -> _Problem:
        near, hats = [], []
        for arm in arms:
            distance = np.abs(arm.instrument.wavelength[:, None] / centre - 1.0).min(axis=1)
            # Windows around lines only: far from them the linear continuum need not hold.
            near.append(~arm.mask & (distance < config.half_window / SPEED_OF_LIGHT))
            hats.append(_continuum(arm.instrument.wavelength[near[-1]], config))
        data, sigma = (
            np.concatenate([getattr(arm, name)[pixels] for arm, pixels in zip(arms, near, strict=True)])
            for name in ("flux", "error")
        )
        instruments = [arm.instrument for arm in arms]
        return cls(instruments, near, data, sigma, block_diag(*hats), shared, redshift)

    def solve(self, velocity_sigma: float) -> _Solution:
        """Linear least squares of all arms at a velocity width [km/s]."""
        profiles = [
            self.shared.profiles(instrument, self.redshift, velocity_sigma)[:, near]
            for instrument, near in zip(self.instruments, self.near, strict=True)
        ]
        columns = np.concatenate([np.concatenate(profiles, axis=1), self.continuum])
        fit = linear_fit(columns, self.sigma**-2.0, self.data)
        residual = (self.data - fit.value @ columns) / self.sigma
        # pixels that are neighbours in one arm; none across arms
        pieces = np.split(residual, np.cumsum([near.sum() for near in self.near])[:-1])
        lagged = sum(float(piece[1:] @ piece[:-1]) for piece in pieces)
        chi_square = float(residual @ residual)
        correlation = float(np.clip(lagged / chi_square, 0.0, 1.0)) if chi_square > 0 else 0.0
        free = self.shared.columns
        return _Solution(fit.value[:free], fit.error[:free], chi_square, correlation)


def _best_width(problem: _Problem, config: LineFitConfig) -> tuple[_Solution, float]:
    """The most probable velocity width: the best of those tried, refined between its neighbours."""
    widths = sorted(config.velocity_widths)
    tried = {width: problem.solve(width) for width in widths}

    def surprise(width: float) -> float:
        # Widths far below the instrument's are all alike: hence the floor.
        deviation = np.log(max(width, 20.0) / config.velocity_prior) / config.velocity_prior_scatter
        return tried[width].chi_square + deviation**2

    best = min(widths, key=surprise)
    place = widths.index(best)
    low, high = widths[max(place - 1, 0)], widths[min(place + 1, len(widths) - 1)]
    if high > low:

        def cost(width: float) -> float:
            tried[width] = problem.solve(width)
            return surprise(width)

        minimize_scalar(cost, bounds=(low, high), method="bounded", options={"xatol": 5.0, "maxiter": 8})
        best = min(tried, key=surprise)
    for width in (max(best - _WIDTH_STEP, 0.0), best + _WIDTH_STEP):
        tried[width] = problem.solve(width)
    return _with_free_width(tried, best, surprise), float(best)


def _with_free_width(tried: dict[float, _Solution], best: float, surprise: Callable) -> _Solution:
    """The best solution with errors that allow for the uncertainty of the width."""
    low, high = max(best - _WIDTH_STEP, 0.0), best + _WIDTH_STEP
    slope_low, slope_high = (
        (surprise(best) - surprise(low)) / max(best - low, 1.0),
        (surprise(high) - surprise(best)) / _WIDTH_STEP,
    )
    curvature = (slope_high - slope_low) / (0.5 * (high - low))
    if curvature <= 0:
        return tried[best]
    # Propagated to first order: by how much fluxes change with the width, times the width's own error from
    # the curvature.
    change = (tried[high].value - tried[low].value) / (high - low) * np.sqrt(2.0 / curvature)
    return replace(tried[best], deviation=np.hypot(tried[best].deviation, change))


def _covered(arm: FittedArm, centre: np.ndarray) -> np.ndarray:
    """Lines whose central FWHM lies on good pixels of an arm to 80 %."""
    wavelength, bounds, good = arm.instrument.wavelength, arm.instrument.bounds, ~arm.mask
    half = 0.5 * arm.instrument.fwhm(centre)
    running = np.concatenate([[0.0], np.cumsum(good * np.diff(bounds, axis=0)[0])])
    edges = np.append(bounds[0], bounds[1, -1])
    seen = np.interp(centre + half, edges, running) - np.interp(centre - half, edges, running)
    whole = (centre - half > wavelength[0]) & (centre + half < wavelength[-1])
    return whole & (seen > _COVERED * 2 * half)


def _tie(
    lines: LineList, centre: np.ndarray, covered: np.ndarray, fwhm: np.ndarray, config: LineFitConfig
) -> tuple[list[dict[int, float]], np.ndarray]:
    """Members and shares of each free flux, and for each line the one that carries its flux."""
    tied_to = np.arange(len(lines))
    ratio_to_head = np.ones(len(lines))
    present = np.flatnonzero(covered)
    for i in present:
        if not lines.partner[i]:
            continue
        j = lines.index(lines.partner[i])
        distance = abs(lines.wavelength[i] / lines.wavelength[j] - 1.0)
        fixed = distance < config.tie and not lines.names[i].startswith(_DENSITY_DEPENDENT)
        if covered[j] and (fixed or distance * centre[i] < config.blend * fwhm[i]):
            tied_to[j], ratio_to_head[j] = i, 1.0 / lines.ratio[i]
    for i, j in pairwise(present):
        # Unrelated lines that fall on each other: the share follows Case B where both have one.
        if tied_to[j] == j and tied_to[i] == i and centre[j] - centre[i] < _COINCIDENT * fwhm[i]:
            known = np.isfinite(lines.case_b[i]) and np.isfinite(lines.case_b[j])
            tied_to[j], ratio_to_head[j] = i, lines.case_b[j] / lines.case_b[i] if known else 1.0
    groups = {i: {i: 1.0} for i in present if tied_to[i] == i}
    for j in present:
        # Ties may chain (a doublet whose stronger line coincides with another): followed to the line that
        # carries the flux.
        head, share = j, 1.0
        while tied_to[head] != head:
            share, head = share * ratio_to_head[head], tied_to[head]
        if head != j:
            tied_to[j], ratio_to_head[j] = head, share
            groups[head][j] = share
    return list(groups.values()), tied_to


def _continuum(wavelength: np.ndarray, config: LineFitConfig) -> np.ndarray:
    """(k, n) piecewise linear hat functions, broken where the windows leave a hole."""
    x = np.log(wavelength) * SPEED_OF_LIGHT
    spacing = 2.0 * config.half_window / config.continuum_knots
    columns = []
    for block in np.split(np.arange(x.size), np.flatnonzero(np.diff(x) > config.half_window / 3) + 1):
        if block.size:
            start, stop = x[block[0]], x[block[-1]]
            count = max(int(np.ceil((stop - start) / spacing)), 1) + 1
            hats = np.zeros((count, x.size))
            hats[:, block] = hat_functions(x[block], start, max(stop, start + 1.0), count)
            columns.append(hats)
    return np.concatenate(columns) if columns else np.zeros((0, x.size))
