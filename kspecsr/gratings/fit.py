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
from scipy.linalg import block_diag
from scipy.special import expit, log_ndtr

from data_pipeline.instrument import SPEED_OF_LIGHT
from kspecsr.gratings.arm import Arm
from kspecsr.gratings.joint_fit import DOUBT, BroadFit, JointFit
from kspecsr.gratings.priors import FLUX_UNIT, LINES, ArmPriors, LinePrior, free_lines
from kspecsr.gratings.redshift import RedshiftScan
from kspecsr.results.arms import ArmFit, Measured

_STARTS = (50.0, 120.0, 300.0, 700.0)  # km/s, velocity widths that are tried
_LOG_SCALES = np.linspace(np.log(0.15), np.log(6.0), 75)
_STEPS = 12
_SETTLED = 1e-3  # of the posterior's cost
_VELOCITY = 100.0  # km/s: velocities are fitted in this unit
_MANY_PEAKS = 1.4  # width of the scan's posterior over that of its peak, from which on the former counts
_PER_ARM = 3  # parameters: scale, drift of it, zero point
_BROAD_STARTS = (0.6, 1.3)  # of the prism's width of broad components, that are tried ...
_BESIDE_BROAD = (50.0, 200.0)  # ... and velocity widths of the narrow ones [km/s]
_BRIGHT = 4.0  # S/N of a line, before or after, whose broad part is looked for
_NO_KNOTS = 3.0  # widths of the broad components around their lines without knots of the continuum
_BROADER = 1.3  # width of broad components over that of narrow ones, below which they are the same
_WORTH_ASKING = 0.03  # chance of broad components from which they are looked for,
_ODD_SHAPES = 1.2  # or chi-square of an arm without them


class _Problem:
    """The parameters and how the arms depend on them.

    Free fluxes in prior sigmas from their means; common velocity, width and sharpness; of each arm the
    logarithm of grating over prism, its drift, and the zero point. An arm's scale is told by lines that the
    prior expects: it multiplies their means, and what fluxes differ from these by is multiplied by the scale
    as last found. Else lines that are absent would tell it, by how well the prior knows that they are.

    With broad components their fluxes come last, in prior sigmas from what is expected of each flux, and the
    logarithm of their width. Both components of a line are one flux, of which the prism knows more.
    """

    def __init__(
        self,
        arms: Sequence[Arm],
        prior: LinePrior,
        priors: ArmPriors,
        found: RedshiftScan,
        wide: Sequence[int] | None = None,
    ):
        self.arms, self.prior, self.priors, self.found = arms, prior, priors, found
        self.broad = None if wide is None else prior.broad
        self.rows = np.flatnonzero(prior.known)
        self.sigma = np.sqrt(np.diagonal(prior.covariance))[self.rows]
        self.count = self.rows.size
        self.at_arm = self.count + 3 + _PER_ARM * np.arange(len(arms))
        velocity, error = found.prism
        # velocities of the scan are about its redshift, those of the fit about the prior's
        self.moved = SPEED_OF_LIGHT * ((1 + found.prior.redshift) / (1 + prior.redshift) - 1.0)
        mean, spread = found.peak
        doubt = abs(velocity - mean) > DOUBT * np.hypot(error, spread)
        self.centre = np.zeros(self.count + 3 + _PER_ARM * len(arms))
        self.centre[self.count] = (velocity + self.moved) / _VELOCITY
        self.centre[self.at_arm] = -np.log(priors.scale)
        self.start = self.centre.copy()
        self.scales = self.centre[self.at_arm]  # as last found, logarithms
        self.start[self.count] = (mean + self.moved) / _VELOCITY
        self.prism_error = (10.0 * error + 1000.0 if doubt else error) / _VELOCITY
        self.free_shift = found.outlying > 0.5
        self.free_scale = np.zeros(len(arms), bool)
        for free, curve, at in zip(self.free_shift, found.curves, self.at_arm, strict=True):
            if free:
                own = curve.mean_and_error()[0] + self.moved
                self.start[at + 2] = own / _VELOCITY - self.start[self.count]
        self.members = [self._members(arm) for arm in arms]
        self.share = np.zeros(prior.mean.size)
        self.wide = np.array([] if wide is None else wide, int)  # (m,) free fluxes with a broad part
        if self.broad is not None:
            self.share[self.wide] = self.broad.share[self.wide]
        self.at_broad = self.centre.size  # the fluxes, and after them the width
        more = np.zeros(self.wide.size + 1 if self.broad is not None else 0)
        self.centre, self.start = (np.concatenate([one, more]) for one in (self.centre, self.start))

    @property
    def linear(self) -> np.ndarray:
        """Positions of all fluxes."""
        return np.append(np.arange(self.count), self.at_broad + np.arange(self.wide.size))

    def _members(self, arm: Arm) -> np.ndarray:
        free = free_lines()
        seen = arm.covered(self.prior.redshift, 100.0) & self.prior.known
        return np.flatnonzero(seen[free.column])

    def prior_precision(self) -> np.ndarray:
        """(p, p)."""
        priors = self.priors
        correlation = self.prior.covariance[np.ix_(self.rows, self.rows)] / self.sigma[:, None] / self.sigma
        common = np.where(self.free_scale, 0.0, priors.common_scale)
        own = np.where(self.free_scale, priors.outlier_scale, priors.arm_scale)
        scales = np.linalg.inv(np.outer(common, common) + np.diag(own**2))
        shift = np.where(self.free_shift, priors.outlier_shift, priors.shift) / _VELOCITY
        widths = 1.0 / np.array([self.prism_error, priors.width_scatter, priors.sharpness])
        precision = block_diag(
            np.linalg.inv(correlation),
            np.diag(widths**2),
            np.zeros((_PER_ARM * len(self.arms),) * 2),
            np.eye(self.centre.size - self.at_broad),
        )
        for i, at in enumerate(self.at_arm):
            precision[at, self.at_arm] = scales[i]
            precision[at + 1, at + 1] = priors.scale_drift**-2.0
            precision[at + 2, at + 2] = shift[i] ** -2.0
        return precision

    def fluxes(self, parameters: np.ndarray) -> np.ndarray:
        """(F,) [FLUX_UNIT]."""
        flux = np.zeros(self.prior.mean.size)
        flux[self.rows] = self.prior.mean[self.rows] + self.sigma * parameters[: self.count]
        return flux

    def broad_fluxes(self, parameters: np.ndarray) -> np.ndarray:
        """(F,) broad parts of the fluxes [FLUX_UNIT]."""
        flux = self.share * self.fluxes(parameters)
        if self.wide.size:
            own = parameters[self.at_broad : self.at_broad + self.wide.size]
            flux[self.wide] += self.broad.scatter[self.wide] * own
        return flux

    def broad_velocity(self, parameters: np.ndarray) -> float:
        """Width of the broad parts [km/s]."""
        return float(self.broad.velocity * np.exp(self.broad.spread * np.clip(parameters[-1], -4.0, 4.0)))

    def velocity_width(self, parameters: np.ndarray) -> float:
        """[km/s]."""
        return float(self.priors.width * np.exp(np.clip(parameters[self.count + 1], -3.0, 4.0)))

    def arm_redshift(self, parameters: np.ndarray, number: int) -> float:
        """Redshift of an arm's lines."""
        velocity = _VELOCITY * (parameters[self.count] + parameters[self.at_arm[number] + 2])
        return (1.0 + self.prior.redshift) * (1.0 + velocity / SPEED_OF_LIGHT) - 1.0

    def columns(self, parameters: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Model of an arm (n,), its derivatives (q, n), and the parameters (q,) that they are by."""
        arm, at, k = self.arms[number], self.at_arm[number], self.count
        members, column = self.members[number], free_lines().column
        own = np.unique(column[members])
        wide = np.intersect1d(own, self.wide)
        place = np.searchsorted(self.rows, own)
        where = [
            place,
            self.at_broad + np.searchsorted(self.wide, wide),
            [k, k + 1, k + 2, at, at + 1, at + 2],
        ]
        where = np.concatenate([*where, [parameters.size - 1] if wide.size else []]).astype(int)
        first = own.size + wide.size  # of the rows that are no fluxes
        columns = np.zeros((where.size, arm.good.size))
        model = np.zeros(arm.good.size)
        flux, broad = self.fluxes(parameters), self.broad_fluxes(parameters)
        # members, width, what is expected and found of their fluxes, derivatives of these, row of the width
        parts = [(members, self.velocity_width(parameters), 1.0 - self.share, flux - broad, -1.0, first + 1)]
        if wide.size:
            second = members[np.isin(column[members], wide)]
            parts.append((second, self.broad_velocity(parameters), self.share, broad, 1.0, where.size - 1))
        for some, width, share, found, sign, at_width in parts:
            lines = arm.profiles(self.arm_redshift(parameters, number), width, parameters[k + 2], some)
            drift = np.exp(parameters[at + 1] * lines.place) * lines.share
            ratio = np.exp(self.scales[number]) * drift
            expected = (share * self.prior.mean)[lines.column]
            scaled = (np.exp(parameters[at]) * drift * expected)[:, None]
            shown = scaled + (ratio * (found[lines.column] - expected))[:, None]
            density = lines.density * ratio[:, None]
            inside = np.isin(lines.column, wide)
            of_flux, of_wide = np.searchsorted(own, lines.column), np.searchsorted(wide, lines.column[inside])
            by_flux = density * (share[lines.column] * self.sigma[place][of_flux])[:, None]
            columns[: own.size] += arm.drawn(of_flux, lines.index, by_flux, own.size)
            if wide.size:
                by_wide = sign * density[inside] * self.broad.scatter[lines.column[inside]][:, None]
                columns[own.size : first] += arm.drawn(of_wide, lines.index[inside], by_wide, wide.size)
            spread = self.broad.spread if at_width > first + 1 else 1.0
            values = {
                first: shown * lines.by_velocity * _VELOCITY,
                at_width: shown * lines.by_width * spread,
                first + 2: shown * lines.by_sharpness,
                first + 3: scaled * lines.density,
                first + 4: shown * lines.density * lines.place[:, None],
            }
            zero = np.zeros(lines.column.size, int)
            for row, value in values.items():
                columns[row] += arm.drawn(zero, lines.index, value, 1)[0]
            model += arm.drawn(zero, lines.index, shown * lines.density, 1)[0]
        columns[first + 5] = columns[first]
        return model, columns, where

    def normal_equations(self, parameters: np.ndarray, precision: np.ndarray):
        """Normal matrix and gradient of all arms and the prior, and the cost, twice the negative log."""
        away = parameters - self.centre
        normal, gradient = precision.copy(), -precision @ away
        cost = float(away @ precision @ away)
        for number, arm in enumerate(self.arms):
            model, columns, where = self.columns(parameters, number)
            own, left, chi_square = arm.normal_equations(columns, model)
            normal[np.ix_(where, where)] += own
            gradient[where] += left
            cost += chi_square
        return normal, gradient, cost

    def score_covariance(self, parameters: np.ndarray, precision: np.ndarray) -> np.ndarray:
        """(p, p) covariance of the gradient."""
        total = precision.copy()
        for number, arm in enumerate(self.arms):
            _, columns, where = self.columns(parameters, number)
            total[np.ix_(where, where)] += arm.score_covariance(columns)
        return total


def _solve(normal: np.ndarray, gradient: np.ndarray, damping: float) -> np.ndarray:
    size = 1.0 / np.sqrt(np.diagonal(normal))
    scaled = normal * size[:, None] * size + damping * np.eye(size.size)
    return size * np.linalg.solve(scaled, size * gradient)


def _settled(problem: _Problem, parameters: np.ndarray, precision: np.ndarray):
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


def _started(problem: _Problem, precision: np.ndarray) -> np.ndarray:
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


def _start_scales(problem: _Problem) -> None:
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
    problem = _Problem(arms, prior, priors, found)
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


def _divisible(problem: _Problem, fitted) -> np.ndarray:
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


def _with_broad(problem: _Problem, fitted, wild: np.ndarray, wide: np.ndarray) -> JointFit:
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
    both = _Problem(stiff, prior, problem.priors, problem.found, wide)
    both.scales, both.free_scale = problem.scales.copy(), problem.free_scale
    both.start[: both.at_broad] = problem.start
    more = wild.copy()
    peak = _peak(both, more, 1)
    narrow = _settled(alone, fitted[0], alone.prior_precision())  # with the same weights of pixels
    broad = _broad_fit(both, peak, _log_evidence(both, peak) - _log_evidence(alone, narrow))
    chosen = (both, peak, more) if broad.likely else (problem, fitted, wild)
    return replace(_described(*chosen), broad=broad)


def _peak(problem: _Problem, wild: np.ndarray, rounds: int):
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


def _covariance(problem: _Problem, parameters: np.ndarray, normal: np.ndarray) -> np.ndarray:
    inverse = np.linalg.inv(normal)
    covariance = inverse @ problem.score_covariance(parameters, problem.prior_precision()) @ inverse
    return 0.5 * (covariance + covariance.T)


def _log_evidence(problem: _Problem, fitted) -> float:
    """Of the data, by the peak's height and width."""
    _, normal, cost = fitted
    volume = np.linalg.slogdet(problem.prior_precision())[1] - np.linalg.slogdet(normal)[1]
    return 0.5 * float(volume - cost)


def _broad_fit(problem: _Problem, fitted, gain: float) -> BroadFit:
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


def _described(problem: _Problem, fitted, wild: np.ndarray) -> JointFit:
    parameters, normal, _ = fitted
    covariance = _covariance(problem, parameters, normal)
    k, prior, found = problem.count, problem.prior, problem.found
    error = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
    stretch = (1.0 + prior.redshift) * _VELOCITY / SPEED_OF_LIGHT

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
    if wide > _MANY_PEAKS * _VELOCITY * error[k]:
        # faint lines: more than one peak, of which the curvature of the highest says nothing
        place = ((mean + problem.moved) / _VELOCITY, wide / _VELOCITY)
    return JointFit(
        redshift=redshift(*place),
        peak=redshift(parameters[k], error[k]),
        prism=redshift((velocity + problem.moved) / _VELOCITY, spread_of_prism / _VELOCITY),
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


def _described_arm(problem: _Problem, parameters, error, number: int, wild: int) -> ArmFit:
    arm, at = problem.arms[number], problem.at_arm[number]
    lines = problem.columns(parameters, number)[0]
    scale = float(np.exp(-parameters[at]))
    return ArmFit(
        spectrum=arm.spectrum,
        scale=Measured(scale, scale * float(error[at])),
        drift=-float(parameters[at + 1]),
        shift=Measured(float(_VELOCITY * parameters[at + 2]), float(_VELOCITY * error[at + 2])),
        noise=arm.noise,
        left_out=wild,
        chi_square=arm.chi_square(lines),
        lines=lines * FLUX_UNIT,
        continuum=arm.continuum_of(arm.flux - lines) * FLUX_UNIT + arm.detail,
        good=arm.good,
    )
