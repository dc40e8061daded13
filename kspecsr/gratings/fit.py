"""Line fluxes, redshift, flux scales and zero points of all arms: the posterior's peak and curvature.

The model of an arm is linear in the line fluxes, whose prior the prism has; the few numbers that are not are
taken in by linearising about the best ones, until nothing moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from itertools import product

import numpy as np
from scipy.special import expit, log_ndtr

from data_pipeline.instrument import SPEED_OF_LIGHT
from kspecsr.gratings.arm import Arm
from kspecsr.gratings.joint_fit import BroadFit, JointFit
from kspecsr.gratings.priors import FLUX_UNIT, LINES, ArmPriors, LinePrior, free_lines
from kspecsr.gratings.problem import VELOCITY, JointProblem
from kspecsr.gratings.redshift import RedshiftScan
from kspecsr.results.arms import ArmFit, Measured

_STARTS = (50.0, 120.0, 300.0, 700.0)  # km/s, velocity widths that are tried
_LOG_SCALES = np.linspace(np.log(0.15), np.log(6.0), 75)
_STEPS = 12
_SETTLED = 1e-3  # of the posterior's cost
_MANY_PEAKS = 1.4  # width of the scan's posterior over that of its peak, from which on the former counts
_BROAD_STARTS = (0.6, 1.3)  # of the prism's width of broad components, that are tried ...
_BESIDE_BROAD = (50.0, 200.0)  # ... and velocity widths of the narrow ones [km/s]
_BRIGHT = 4.0  # S/N of a line, before or after, whose broad part is looked for
_NO_KNOTS = 3.0  # widths of the broad components around their lines without knots of the continuum
_BROADER = 1.3  # width of broad components over that of narrow ones, below which they are the same
_WORTH_ASKING = 0.03  # chance of broad components from which they are looked for,
_ODD_SHAPES = 1.2  # or chi-square of an arm without them


def _solve(normal: np.ndarray, gradient: np.ndarray, damping: float) -> np.ndarray:
    size = 1.0 / np.sqrt(np.diagonal(normal))
    scaled = normal * size[:, None] * size + damping * np.eye(size.size)
    return size * np.linalg.solve(scaled, size * gradient)


def _settled(problem: JointProblem, parameters: np.ndarray, precision: np.ndarray):
    """Levenberg-Marquardt steps until the cost does not fall; parameters and the normal matrix there."""
    damping = 1e-4
    normal, gradient, cost = problem.normal_equations(parameters, precision)
    for _ in range(_STEPS):
        trial = parameters + _solve(normal, gradient, damping)
        found = problem.normal_equations(trial, precision)
        if found[2] > cost + 1e-9 * abs(cost):
            damping = max(10.0 * damping, 1e-3)
            continue
        fallen, damping = cost - found[2], 0.1 * damping
        parameters, (normal, gradient, cost) = trial, found
        if fallen < _SETTLED:
            break
    return parameters, normal, cost


def _started(problem: JointProblem, precision: np.ndarray) -> np.ndarray:
    """Parameters to start from: the best velocity widths of some, with the line fluxes that they ask for."""
    best, lowest = problem.start, np.inf
    at, broad = problem.linear, problem.broad
    tried = product(_STARTS, (1.0,)) if broad is None else product(_BESIDE_BROAD, _BROAD_STARTS)
    for width, factor in tried:
        trial = problem.start.copy()
        trial[problem.count + 1] = np.log(width / problem.priors.width)
        if broad is not None:
            if broad.velocity * factor < _BROADER * width:
                continue
            trial[-1] = np.log(factor) / broad.spread
        normal, gradient, cost = problem.normal_equations(trial, precision)
        change = np.linalg.solve(normal[np.ix_(at, at)], gradient[at])
        trial[at] += change
        cost -= float(change @ gradient[at])
        if cost < lowest:
            best, lowest = trial, cost
    return best


def _start_scales(problem: JointProblem) -> None:
    """Scale of each arm by itself, and whether it is another than the prior says."""
    priors = problem.priors
    away = _LOG_SCALES + np.log(priors.scale)
    usual, other = (np.exp(-0.5 * (away / s) ** 2) for s in (priors.scale_scatter, priors.outlier_scale))
    usual, other = usual / usual.sum(), other / other.sum()
    for number, at in enumerate(problem.at_arm):
        _, columns, where = problem.columns(problem.start, number)
        rows = where[where < problem.count]
        if not rows.size:
            continue
        columns = columns[: rows.size] / np.exp(problem.scales[number])
        normal, left, _ = problem.arms[number].normal_equations(columns, np.zeros(columns.shape[1]))
        known = problem.rows[rows]
        sigma = problem.sigma[rows]
        mean = problem.prior.mean[known] / sigma
        precision = np.linalg.inv(problem.prior.covariance[np.ix_(known, known)] / sigma[:, None] / sigma)
        for _ in range(2):
            last = np.exp(problem.scales[number])
            # log density of the data for means times each scale, and deviations from them times the last
            gradient = left - np.exp(_LOG_SCALES)[:, None] * (normal @ mean)  # (S, f)
            solved = np.linalg.solve(last**2 * normal + precision, gradient.T)
            log = np.exp(_LOG_SCALES) * (mean @ left)
            log -= 0.5 * np.exp(2.0 * _LOG_SCALES) * (mean @ normal @ mean)
            log += 0.5 * last**2 * np.einsum("sf,fs->s", gradient, solved)
            likelihood = np.exp(log - log.max())
            chance_usual = (1.0 - priors.outliers) * float(usual @ likelihood)
            chance_other = priors.outliers * float(other @ likelihood)
            problem.free_scale[number] = chance_other > chance_usual
            weights = likelihood * (other if problem.free_scale[number] else usual)
            problem.scales[number] = float(weights @ _LOG_SCALES / weights.sum())
        problem.start[at] = problem.scales[number]


def fit_arms(
    arms: Sequence[Arm], prior: LinePrior, found: RedshiftScan, priors: ArmPriors | None = None
) -> JointFit:
    """The posterior of everything, from the prism's line fluxes and the gratings.

    Args:
        arms: one or more gratings; pixels that no line explains are left out of them.
        prior: line fluxes from the prism, near the redshift that was found.
        found: the mode of P(z) that prism and gratings agree on best.
        priors: None for the default.
    """
    priors, arms = priors or ArmPriors(), list(arms)
    problem = JointProblem(arms, prior, priors, found)
    _start_scales(problem)
    wild = np.zeros(len(arms), int)
    fitted = _peak(problem, wild, 2)
    if prior.broad is None or not any(one.size for one in problem.members):
        return _described(problem, fitted, wild)
    odd = any(arm.chi_square(problem.columns(fitted[0], n)[0]) > _ODD_SHAPES for n, arm in enumerate(arms))
    wide = _divisible(problem, fitted)
    if (prior.broad.probability < _WORTH_ASKING and not odd) or not wide.size:
        return _described(problem, fitted, wild)
    return _with_broad(problem, fitted, wild, wide)


def _divisible(problem: JointProblem, fitted) -> np.ndarray:
    """(m,) free fluxes that may have a broad part and are bright enough to tell."""
    parameters, normal, _ = fitted
    error = problem.sigma * np.sqrt(np.diagonal(np.linalg.inv(normal))[: problem.count])
    before, after = (
        problem.prior.mean[problem.rows] / problem.sigma,
        problem.fluxes(parameters)[problem.rows] / error,
    )
    seen = np.unique(free_lines().column[np.concatenate(problem.members)])
    bright = problem.rows[np.maximum(before, after) > _BRIGHT]
    able = np.flatnonzero(problem.prior.broad.scatter > 0)
    return np.intersect1d(np.intersect1d(seen, bright), able)


def _with_broad(problem: JointProblem, fitted, wild: np.ndarray, wide: np.ndarray) -> JointFit:
    """The fit with broad components, if there are any; else the one without.

    Args:
        problem: without them.
        fitted: its peak.
        wild: (A,) pixels that were left out.
        wide: (m,) free fluxes that are divided.
    """
    prior, redshift = problem.prior, problem.arm_redshift(fitted[0], 0)
    centre = LINES.wavelength[free_lines().line[np.isin(free_lines().column, wide)]] * (1.0 + redshift)
    reach = _NO_KNOTS * prior.broad.velocity / SPEED_OF_LIGHT
    # a continuum as free as elsewhere would take broad components for its own
    stiff = [arm.stiffened(centre, reach) for arm in problem.arms]
    alone = copy(problem)
    alone.arms = stiff
    both = JointProblem(stiff, prior, problem.priors, problem.found, wide)
    both.scales, both.free_scale = problem.scales.copy(), problem.free_scale
    both.start[: both.at_broad] = problem.start
    more = wild.copy()
    peak = _peak(both, more, 1)
    narrow = _settled(alone, fitted[0], alone.prior_precision())  # with the same weights of pixels
    broad = _broad_fit(both, peak, _log_evidence(both, peak) - _log_evidence(alone, narrow))
    chosen = (both, peak, more) if broad.likely else (problem, fitted, wild)
    return replace(_described(*chosen), broad=broad)


def _peak(problem: JointProblem, wild: np.ndarray, rounds: int):
    """Parameters at the peak, normal matrix, and cost.

    In each round weights of pixels follow the lines; pixels that are left out are counted in ``wild`` (A,).
    """
    precision = problem.prior_precision()
    parameters = _started(problem, precision)
    for _ in range(rounds):
        parameters, _, _ = _settled(problem, parameters, precision)
        problem.scales = parameters[problem.at_arm].copy()
        for number, arm in enumerate(problem.arms):
            lines = problem.columns(parameters, number)[0]
            wild[number] += arm.with_lines(lines, problem.priors.model_error)
    return _settled(problem, parameters, precision)


def _covariance(problem: JointProblem, parameters: np.ndarray, normal: np.ndarray) -> np.ndarray:
    inverse = np.linalg.inv(normal)
    covariance = inverse @ problem.score_covariance(parameters, problem.prior_precision()) @ inverse
    return 0.5 * (covariance + covariance.T)


def _log_evidence(problem: JointProblem, fitted) -> float:
    """Of the data, by the peak's height and width."""
    _, normal, cost = fitted
    volume = np.linalg.slogdet(problem.prior_precision())[1] - np.linalg.slogdet(normal)[1]
    return 0.5 * float(volume - cost)


def _broad_fit(problem: JointProblem, fitted, gain: float) -> BroadFit:
    """Broad components of a fit that had some.

    Args:
        problem: with them.
        fitted: its peak.
        gain: log evidence over that of narrow lines alone.
    """
    parameters, normal, _ = fitted
    covariance = _covariance(problem, parameters, normal)
    column, m, stated = problem.wide, problem.wide.size, problem.broad
    row = np.searchsorted(problem.rows, column)
    to_broad, to_narrow = np.zeros((2, m, parameters.size))
    own = np.arange(m)
    to_broad[own, row] = problem.share[column] * problem.sigma[row]
    to_broad[own, problem.at_broad + own] = stated.scatter[column]
    to_narrow[own, row] = problem.sigma[row]
    to_narrow -= to_broad
    broad = problem.broad_fluxes(parameters)[column]
    width = problem.broad_velocity(parameters)
    odds = np.log(stated.probability / (1.0 - stated.probability)) + gain
    # ones that take light away are none: by how much of the posterior adds some
    total = to_broad.sum(axis=0)
    odds += log_ndtr(broad.sum() / np.sqrt(total @ covariance @ total))
    if width < _BROADER * problem.velocity_width(parameters):  # the same lines twice
        odds = -np.inf
    errors = [np.sqrt(np.einsum("mp,pq,mq->m", one, covariance, one)) for one in (to_broad, to_narrow)]
    return BroadFit(
        probability=float(expit(odds)),
        width=Measured(width, width * stated.spread * float(np.sqrt(covariance[-1, -1]))),
        column=column,
        flux=np.maximum(broad, 0.0) * FLUX_UNIT,
        error=errors[0] * FLUX_UNIT,
        narrow_error=errors[1] * FLUX_UNIT,
    )


def _described(problem: JointProblem, fitted, wild: np.ndarray) -> JointFit:
    parameters, normal, _ = fitted
    covariance = _covariance(problem, parameters, normal)
    k, prior, found = problem.count, problem.prior, problem.found
    error = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
    stretch = (1.0 + prior.redshift) * VELOCITY / SPEED_OF_LIGHT

    def redshift(velocity: float, spread: float) -> Measured:
        return Measured(float(prior.redshift + stretch * velocity), float(stretch * spread))

    flux, spread = np.full(prior.mean.size, np.nan), np.full(prior.covariance.shape, np.nan)
    flux[problem.rows] = problem.fluxes(parameters)[problem.rows] * FLUX_UNIT
    scaled = covariance[:k, :k] * problem.sigma[:, None] * problem.sigma * FLUX_UNIT**2
    spread[np.ix_(problem.rows, problem.rows)] = scaled
    seen = np.zeros(prior.mean.size, bool)
    for members in problem.members:
        seen[free_lines().column[members]] = True
    width = problem.velocity_width(parameters)
    velocity, spread_of_prism = found.prism
    mean, wide = found.velocity
    place = (parameters[k], error[k])
    if wide > _MANY_PEAKS * VELOCITY * error[k]:
        # faint lines: more than one peak, of which the curvature of the highest says nothing
        place = ((mean + problem.moved) / VELOCITY, wide / VELOCITY)
    return JointFit(
        redshift=redshift(*place),
        peak=redshift(parameters[k], error[k]),
        prism=redshift((velocity + problem.moved) / VELOCITY, spread_of_prism / VELOCITY),
        flux=flux,
        covariance=spread,
        seen=seen,
        width=Measured(width, width * float(error[k + 1])),
        sharpness=float(parameters[k + 2]),
        arms=tuple(
            _described_arm(problem, parameters, error, number, int(wild[number]))
            for number in range(len(problem.arms))
        ),
    )


def _described_arm(problem: JointProblem, parameters, error, number: int, wild: int) -> ArmFit:
    arm, at = problem.arms[number], problem.at_arm[number]
    lines = problem.columns(parameters, number)[0]
    scale = float(np.exp(-parameters[at]))
    return ArmFit(
        spectrum=arm.spectrum,
        scale=Measured(scale, scale * float(error[at])),
        drift=-float(parameters[at + 1]),
        shift=Measured(float(VELOCITY * parameters[at + 2]), float(VELOCITY * error[at + 2])),
        noise=arm.noise,
        left_out=wild,
        chi_square=arm.chi_square(lines),
        lines=lines * FLUX_UNIT,
        continuum=arm.continuum_of(arm.flux - lines) * FLUX_UNIT + arm.detail,
        good=arm.good,
    )
