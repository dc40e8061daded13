"""Line fluxes of grating spectra at a known redshift, by linear least squares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import ndtr

from data_pipeline.instrument import Instrument
from data_pipeline.lines import LineList, load_lines

LIGHT_SPEED = 299792.458  # km/s
UM_TO_ANGSTROM = 1e4
WIDTH_STEP = 20.0  # km/s, over which the change of the fluxes with the width is measured


@dataclass(frozen=True)
class LineFitConfig:
    """How lines are fitted.

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
    """Fitted lines, in the order of the list that was asked for.

    Attributes:
        names: n lines.
        flux: (n,) [erg/s/cm2]; NaN where not covered. Negative values are noise, and kept.
        error: (n,) one-sigma errors [erg/s/cm2].
        covered: (n,) bool: the line lies on good pixels.
        tied_to: (n,) index of the line that carries the free parameter; itself where free.
        velocity_width: one-sigma width adopted [km/s].
        reduced_chi_square: of the whole fit.
    """

    names: tuple[str, ...]
    flux: np.ndarray
    error: np.ndarray
    covered: np.ndarray
    tied_to: np.ndarray
    velocity_width: float
    reduced_chi_square: float

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


def unfitted_lines(lines: LineList) -> LineFluxes:
    """The result for a spectrum without a redshift: nothing covered, every flux NaN."""
    missing = np.full(len(lines), np.nan)
    nothing = np.zeros(len(lines), bool)
    return LineFluxes(lines.names, missing, missing.copy(), nothing, np.arange(len(lines)), 0.0, np.nan)


@dataclass(frozen=True)
class FittedArm:
    """One grating on its own pixels, brought to the common flux scale.

    Attributes:
        instrument: gives the pixels and the line-spread function.
        flux: (n,) flux density [erg/s/cm2/A].
        error: (n,) one-sigma errors [erg/s/cm2/A].
        mask: (n,) bool, True = bad.
    """

    instrument: Instrument
    flux: np.ndarray
    error: np.ndarray
    mask: np.ndarray


def fit_lines(
    arms: Sequence[FittedArm],
    redshift: float,
    lines: LineList | None = None,
    config: LineFitConfig | None = None,
) -> LineFluxes:
    """Fits all lines of a list with Gaussians of the instrument's width on a local linear continuum.

    All arms are fitted together on their native pixels, where errors are nearly independent: a line in an
    overlap has one flux and each arm its own profile and continuum. What correlation of neighbouring pixels
    the residuals show enlarges the errors.

    Args:
        arms: the gratings.
        redshift: known redshift.
        lines: None for the shipped list.
        config: None for the default.

    Raises:
        ValueError: for a redshift that is not finite or below -1.
    """
    if not np.isfinite(redshift) or redshift <= -1:
        raise ValueError(
            f"expected a finite redshift above -1, got {redshift}; leave the object out or give one"
        )
    lines, config = lines or load_lines(), config or LineFitConfig()
    centre = lines.wavelength * (1.0 + redshift)
    seen = np.array([_covered(arm, centre) for arm in arms])
    covered = seen.any(axis=0)
    fwhm = np.min(
        [np.where(s, arm.instrument.fwhm(centre), np.inf) for s, arm in zip(seen, arms, strict=True)], 0
    )
    parameters, tied_to = _tie(lines, centre, covered, fwhm, config)
    flux, error = np.full((2, len(lines)), np.nan)
    if not parameters:
        return LineFluxes(lines.names, flux, error, covered, tied_to, 0.0, np.nan)
    windows = [_Window.around(arm, centre[covered], config) for arm in arms]
    solution, width = _best_width(windows, centre, parameters, config)
    unit = np.median([w.unit for w in windows])
    inflation = np.sqrt(1.0 + 2.0 * solution.correlation)
    for k, group in enumerate(parameters):
        for i, share in group:
            flux[i] = solution.value[k] * share * unit
            error[i] = solution.deviation[k] * share * unit * inflation
    return LineFluxes(
        lines.names, flux, error, covered, tied_to, width, solution.chi_square / max(solution.freedom, 1)
    )


@dataclass(frozen=True)
class _Window:
    """The good pixels of an arm near its lines, and the continuum under them."""

    bounds: np.ndarray
    data: np.ndarray
    sigma: np.ndarray
    continuum: np.ndarray
    instrument: Instrument

    @classmethod
    def around(cls, arm: FittedArm, centre: np.ndarray, config: LineFitConfig) -> _Window:
        wavelength = arm.instrument.wavelength
        distance = np.abs(wavelength[:, None] / centre - 1.0).min(axis=1)
        near = ~arm.mask & (distance < config.half_window / LIGHT_SPEED)
        continuum = _continuum(wavelength[near], config) if near.any() else np.zeros((0, 0))
        return cls(arm.instrument.bounds[:, near], arm.flux[near], arm.error[near], continuum, arm.instrument)

    @property
    def unit(self) -> float:
        return float(np.median(self.sigma)) if self.sigma.size else 1e-20


@dataclass(frozen=True)
class _Solution:
    value: np.ndarray
    deviation: np.ndarray
    chi_square: float
    freedom: int
    correlation: float


def _best_width(windows, centre, parameters, config: LineFitConfig) -> tuple[_Solution, float]:
    """The most probable velocity width: the best of those tried, refined between its neighbours."""
    widths = sorted(config.velocity_widths)
    tried = {width: _fit(windows, centre, parameters, width) for width in widths}

    def surprise(width: float) -> float:
        # Widths far below the instrument's are all alike: hence the floor.
        deviation = np.log(max(width, 20.0) / config.velocity_prior) / config.velocity_prior_scatter
        return tried[width].chi_square + deviation**2

    best = min(widths, key=surprise)
    place = widths.index(best)
    low, high = widths[max(place - 1, 0)], widths[min(place + 1, len(widths) - 1)]
    if high > low:

        def cost(width: float) -> float:
            tried[width] = _fit(windows, centre, parameters, width)
            return surprise(width)

        minimize_scalar(cost, bounds=(low, high), method="bounded", options={"xatol": 5.0, "maxiter": 8})
        best = min(tried, key=surprise)
    for width in (max(best - WIDTH_STEP, 0.0), best + WIDTH_STEP):
        tried[width] = _fit(windows, centre, parameters, width)
    return _with_free_width(tried, best, surprise), float(best)


def _with_free_width(tried: dict[float, _Solution], best: float, surprise: Callable) -> _Solution:
    """The best solution with errors that allow for the uncertainty of the width."""
    low, high = max(best - WIDTH_STEP, 0.0), best + WIDTH_STEP
    slope_low, slope_high = (
        (surprise(best) - surprise(low)) / max(best - low, 1.0),
        (surprise(high) - surprise(best)) / WIDTH_STEP,
    )
    curvature = (slope_high - slope_low) / (0.5 * (high - low))
    if curvature <= 0:
        return tried[best]
    change = (tried[high].value - tried[low].value) / (high - low) * np.sqrt(2.0 / curvature)
    return replace(tried[best], deviation=np.hypot(tried[best].deviation, change))


def _fit(windows, centre, parameters, width: float) -> _Solution:
    """Linear least squares of all arms at a given velocity width."""
    unit = np.median([w.unit for w in windows])
    columns = sum(w.continuum.shape[1] for w in windows)
    blocks, offset = [], len(parameters)
    for window in windows:
        block = np.zeros((window.data.size, len(parameters) + columns))
        sigma = _line_sigma(window.bounds, centre, width, window.instrument)
        block[:, : len(parameters)] = _profiles(window.bounds, centre, sigma, parameters) / UM_TO_ANGSTROM
        block[:, offset : offset + window.continuum.shape[1]] = window.continuum
        offset += window.continuum.shape[1]
        blocks.append(block * (unit / window.sigma[:, None]))
    design = np.concatenate(blocks)
    data = np.concatenate([w.data / w.sigma for w in windows])
    value, deviation, residual = _solve(design, data)
    pieces = np.split(residual, np.cumsum([w.data.size for w in windows])[:-1])
    lagged = sum(float(piece[1:] @ piece[:-1]) for piece in pieces)
    chi_square = float(residual @ residual)
    correlation = float(np.clip(lagged / chi_square, 0.0, 1.0)) if chi_square > 0 else 0.0
    return _Solution(value, deviation, chi_square, data.size - design.shape[1], correlation)


def _covered(arm: FittedArm, centre: np.ndarray) -> np.ndarray:
    """Lines whose central FWHM lies on good pixels of an arm to 80 %."""
    wavelength, bounds, good = arm.instrument.wavelength, arm.instrument.bounds, ~arm.mask
    half = 0.5 * arm.instrument.fwhm(centre)
    running = np.concatenate([[0.0], np.cumsum(good * np.diff(bounds, axis=0)[0])])
    edges = np.append(bounds[0], bounds[1, -1])
    seen = np.interp(centre + half, edges, running) - np.interp(centre - half, edges, running)
    return (centre - half > wavelength[0]) & (centre + half < wavelength[-1]) & (seen > 0.8 * 2 * half)


def _tie(lines, centre, covered, fwhm, config):
    """Free parameters as lists of (line, share), and the line that carries each line's parameter."""
    tied_to = np.arange(len(lines))
    ratio_to_head = np.ones(len(lines))
    for i in np.flatnonzero(covered):
        if not lines.partner[i]:
            continue
        j = lines.index(lines.partner[i])
        distance = abs(lines.wavelength[i] / lines.wavelength[j] - 1.0)
        density_dependent = lines.names[i].startswith(("[OII]", "[SII]_6", "CIII]", "[NI]"))
        if covered[j] and (
            distance * centre[i] < config.blend * fwhm[i] or (distance < config.tie and not density_dependent)
        ):
            tied_to[j], ratio_to_head[j] = i, 1.0 / lines.ratio[i]
    for i, j in zip(np.flatnonzero(covered), np.flatnonzero(covered)[1:], strict=False):
        # Unrelated lines that fall on each other: the share follows Case B where both have one.
        if tied_to[j] == j and tied_to[i] == i and centre[j] - centre[i] < 0.25 * fwhm[i]:
            known = np.isfinite(lines.case_b[i]) and np.isfinite(lines.case_b[j])
            tied_to[j], ratio_to_head[j] = i, lines.case_b[j] / lines.case_b[i] if known else 1.0
    groups = {i: [(i, 1.0)] for i in np.flatnonzero(covered) if tied_to[i] == i}
    for j in np.flatnonzero(covered):
        head, share = j, 1.0
        while tied_to[head] != head:
            share, head = share * ratio_to_head[head], tied_to[head]
        if head != j:
            tied_to[j] = head
            ratio_to_head[j] = share
            groups[head].append((j, share))
    return list(groups.values()), tied_to


def _line_sigma(bounds, centre, velocity_width: float, instrument: Instrument) -> np.ndarray:
    """(lines,) widths of the kernels [um] whose average over pixels is as wide as the instrument's lines."""
    pixel = np.interp(centre, bounds.mean(axis=0), bounds[1] - bounds[0])
    variance = instrument.sigma(centre) ** 2 - pixel**2 / 12.0 + (centre * velocity_width / LIGHT_SPEED) ** 2
    return np.sqrt(np.maximum(variance, (0.1 * pixel) ** 2))


def _profiles(bounds, centre, sigma, parameters) -> np.ndarray:
    """(n, parameters) unit-flux Gaussians averaged over pixels [1/um], tied lines added up."""
    width = bounds[1] - bounds[0]
    low = np.searchsorted(bounds[1], centre - 6.0 * sigma)
    high = np.searchsorted(bounds[0], centre + 6.0 * sigma)
    profiles = np.zeros((width.size, len(parameters)))
    for k, group in enumerate(parameters):
        for i, share in group:
            near = slice(low[i], high[i])
            step = ndtr((bounds[:, near] - centre[i]) / sigma[i])
            profiles[near, k] += share * (step[1] - step[0]) / width[near]
    return profiles


def _continuum(wavelength, config: LineFitConfig) -> np.ndarray:
    """Piecewise linear hat functions, (n, k), broken where the windows leave a hole."""
    x = np.log(wavelength) * LIGHT_SPEED
    spacing = 2.0 * config.half_window / config.continuum_knots
    blocks = np.split(np.arange(x.size), np.flatnonzero(np.diff(x) > config.half_window / 3) + 1)
    columns = []
    for block in blocks:
        start, stop = x[block[0]], x[block[-1]]
        knots = np.linspace(start, max(stop, start + 1.0), max(int(np.ceil((stop - start) / spacing)), 1) + 1)
        hats = np.zeros((x.size, knots.size))
        hats[block] = np.stack([np.interp(x[block], knots, row) for row in np.eye(knots.size)], axis=1)
        columns.append(hats)
    return np.concatenate(columns, axis=1)


def _solve(design: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least squares through scaled normal equations: parameters, their errors, residuals."""
    norm = np.sqrt((design**2).sum(axis=0))
    norm[norm == 0] = 1.0
    scaled = design / norm
    normal = scaled.T @ scaled
    normal[np.diag_indices_from(normal)] += 1e-10
    inverse = np.linalg.inv(normal)
    value = inverse @ (scaled.T @ data)
    return value / norm, np.sqrt(np.diag(inverse)) / norm, data - scaled @ value
