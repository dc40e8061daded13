"""How all arms depend on line fluxes, redshift, flux scales and zero points: the joint fit's equations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import block_diag

from data_pipeline.instrument import SPEED_OF_LIGHT
from kspecsr.gratings.arm import Arm
from kspecsr.gratings.joint_fit import DOUBT
from kspecsr.gratings.priors import ArmPriors, LinePrior, free_lines
from kspecsr.gratings.redshift import RedshiftScan

VELOCITY = 100.0  # km/s: velocities are fitted in this unit
_PER_ARM = 3  # parameters: scale, drift of it, zero point


class JointProblem:
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
        self.centre[self.count] = (velocity + self.moved) / VELOCITY
        self.centre[self.at_arm] = -np.log(priors.scale)
        self.start = self.centre.copy()
        self.scales = self.centre[self.at_arm]  # as last found, logarithms
        self.start[self.count] = (mean + self.moved) / VELOCITY
        self.prism_error = (10.0 * error + 1000.0 if doubt else error) / VELOCITY
        self.free_shift = found.outlying > 0.5
        self.free_scale = np.zeros(len(arms), bool)
        for free, curve, at in zip(self.free_shift, found.curves, self.at_arm, strict=True):
            if free:
                own = curve.mean_and_error()[0] + self.moved
                self.start[at + 2] = own / VELOCITY - self.start[self.count]
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
        shift = np.where(self.free_shift, priors.outlier_shift, priors.shift) / VELOCITY
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
        velocity = VELOCITY * (parameters[self.count] + parameters[self.at_arm[number] + 2])
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
                first: shown * lines.by_velocity * VELOCITY,
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
