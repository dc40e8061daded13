"""Which redshift prism and gratings agree on: the gratings' likelihood on a grid around modes of P(z)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from data_pipeline.instrument import SPEED_OF_LIGHT
from data_pipeline.instrument.line_spread import ANGSTROM_PER_UM
from data_pipeline.lines.profile import pixel_mean
from kspecsr.gratings.arm import Arm, with_broad
from kspecsr.gratings.priors import LINES, ArmPriors, LinePrior, free_lines

STEP, REACH = 15.0, 2500.0  # km/s: of the grid, and on either side of a mode
VELOCITY = np.arange(-REACH, REACH + 0.5 * STEP, STEP)
_MOST_LINES = 10  # of an arm, those that say most
_LEAST_SIGNAL = 0.5  # expected squared S/N below which a line is not looked at
_WIDTH = 100.0  # km/s, of lines in the scan
_DRAWN = 4.0  # sigma of a profile
_SURE = 4.5  # log likelihood over its mean above which an arm has a redshift of its own: 3 sigma
_PEAK, _ONE_PEAK = 4.0, 0.97  # sigma of a peak, and the share within from which on others do not matter
_FLOOR = 0.02  # share of P(z) that is spread over the modes: no certainty outlives bright lines


@dataclass(frozen=True, eq=False)
class ArmCurve:
    """What one arm says of the velocity of its lines.

    Attributes:
        log_likelihood: (G,) at `VELOCITY`, over that of no lines at all.
    """

    log_likelihood: np.ndarray

    @property
    def sure(self) -> bool:
        """Whether the arm by itself prefers a velocity at 3 sigma."""
        value = self.log_likelihood
        return bool(value.max() - np.log(np.mean(np.exp(value - value.max()))) - value.max() > _SURE)

    def mean_and_error(self) -> tuple[float, float]:
        """Of the velocity [km/s] around its peak."""
        return _moments(np.exp(self.log_likelihood - self.log_likelihood.max()))


@dataclass(frozen=True, eq=False)
class RedshiftScan:
    """One mode of P(z) with the gratings' likelihood.

    Attributes:
        prior: line fluxes at the mode's redshift, at which velocities are 0.
        curves: of the arms.
        density: (G,) posterior at `VELOCITY`, relative.
        log_evidence: of the mode, its mass included.
        outlying: (A,) chance of each arm that its zero point is not the others'.
        prism: mean and error of the prism's P(z) in this mode [km/s].
    """

    prior: LinePrior
    curves: tuple[ArmCurve, ...]
    density: np.ndarray
    log_evidence: float
    outlying: np.ndarray
    prism: tuple[float, float]

    @property
    def peak(self) -> tuple[float, float]:
        """Mean and one-sigma width of the highest peak [km/s]."""
        return _moments(self.density)

    @property
    def velocity(self) -> tuple[float, float]:
        """Mean around the highest peak and one-sigma error [km/s], of all peaks where others hold much."""
        mean, error = self.peak
        weight = self.density / self.density.sum()
        near = np.abs(VELOCITY - mean) < _PEAK * error
        if weight[near].sum() < _ONE_PEAK:
            error = float(np.sqrt(weight @ (VELOCITY - mean) ** 2))
        return mean, error


def _moments(density: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the stretch around the peak, to a hundredth of it."""
    low, peak = density < 0.01 * density.max(), int(density.argmax())
    first = np.flatnonzero(low[:peak])
    last = np.flatnonzero(low[peak:])
    inside = slice(first[-1] + 1 if first.size else 0, peak + last[0] if last.size else density.size)
    weight = density[inside] / density[inside].sum()
    mean = float(weight @ VELOCITY[inside])
    return mean, float(np.sqrt(weight @ (VELOCITY[inside] - mean) ** 2 + STEP**2 / 12.0))


def scan(
    arms: Sequence[Arm], prior: LinePrior, prism_density: Callable, mass: float, priors: ArmPriors
) -> RedshiftScan:
    """The gratings' likelihood around a redshift, times the prism's P(z).

    Args:
        arms: the gratings.
        prior: line fluxes, at the redshift around which is looked.
        prism_density: of redshifts (G,) to P(z) per unit of z.
        mass: of this mode of P(z).
        priors: of arms.
    """
    curves = tuple(ArmCurve(_likelihood(arm, prior, priors)) for arm in arms)
    prism = np.maximum(prism_density(_redshifts(prior.redshift)), 0.0)
    prism = prism / prism.sum() if prism.any() else np.ones(prism.size) / prism.size
    prism_moments = _moments(prism)
    wide = np.exp(-0.5 * ((VELOCITY - prism_moments[0]) / (0.4 * REACH)) ** 2)
    prism = (1.0 - _FLOOR) * prism + _FLOOR * wide / wide.sum()
    narrow, broad = _smoothing(priors.shift), _smoothing(priors.outlier_shift)
    tops = [curve.log_likelihood.max() for curve in curves]
    same, other = [], []
    for curve, top in zip(curves, tops, strict=True):
        value = np.exp(curve.log_likelihood - top)
        same.append((1.0 - priors.outliers) * (narrow @ value))
        other.append(priors.outliers * (broad @ value))
    both = [a + b for a, b in zip(same, other, strict=True)]
    density = prism * np.prod(both, axis=0) if both else prism
    total = density.sum()
    # an arm without a redshift of its own has no zero point to disagree
    outlying = np.array(
        [
            float(np.sum(density * b / t) / total) if curve.sure else 0.0
            for b, t, curve in zip(other, both, curves, strict=True)
        ]
    )
    evidence = np.log(max(mass, 1e-12)) + np.log(total) + sum(tops)
    return RedshiftScan(prior, curves, density, float(evidence), outlying, prism_moments)


def _redshifts(redshift: float) -> np.ndarray:
    return (1.0 + redshift) * (1.0 + VELOCITY / SPEED_OF_LIGHT) - 1.0


def _smoothing(sigma: float) -> np.ndarray:
    """(G, G) matrix that averages over zero points of a scatter [km/s]; rows add up to 1."""
    apart = VELOCITY[:, None] - VELOCITY
    # of a pixel's width at least, or the grid would miss what lies between its points
    kernel = np.exp(-0.5 * (apart / max(sigma, 0.8 * STEP)) ** 2)
    return kernel / kernel.sum(axis=1, keepdims=True)


def _likelihood(arm: Arm, prior: LinePrior, priors: ArmPriors) -> np.ndarray:
    """(G,) log likelihood over that of a continuum alone; line fluxes and the scale are marginalised."""
    free = free_lines()
    chosen = _telling(arm, prior, priors)
    if not chosen.size:
        return np.zeros(VELOCITY.size)
    number = np.full(free.columns, -1)
    number[chosen] = np.arange(chosen.size)
    members = np.flatnonzero(number[free.column] >= 0)
    normal, left = _scanned(arm, prior, members, number)
    template = prior.mean[chosen] / priors.scale
    covariance = prior.covariance[np.ix_(chosen, chosen)] / priors.scale**2
    # the wide prior of the scale: a bright line with another scale, or shape, is no reason to look elsewhere
    covariance = covariance + priors.outlier_scale**2 * (np.outer(template, template) + covariance)
    precision = np.linalg.inv(covariance)
    pull = left + precision @ template  # (G, f)
    total = normal + precision
    solved = np.linalg.solve(total, pull[..., None])[..., 0]
    change = np.linalg.slogdet(precision)[1] - np.linalg.slogdet(total)[1]
    return 0.5 * (np.sum(pull * solved, axis=1) - template @ precision @ template + change)


def _telling(arm: Arm, prior: LinePrior, priors: ArmPriors) -> np.ndarray:
    """Free fluxes that are worth looking at, by the S/N that the prism's fluxes promise."""
    free = free_lines()
    centre = LINES.wavelength[free.line] * (1.0 + prior.redshift)
    margin = REACH / SPEED_OF_LIGHT
    inside = (centre * (1.0 - margin) < arm.span[1]) & (centre * (1.0 + margin) > arm.span[0])
    inside &= prior.known[free.column]
    profiles = arm.profiles(prior.redshift, _WIDTH, 0.0, np.flatnonzero(inside))
    # the median weight near by, as the line may lie on other pixels than expected
    weight = np.sum(profiles.density**2, axis=1) * np.median(arm.weight[profiles.index], axis=1)
    information = np.bincount(profiles.column, profiles.share**2 * weight, minlength=free.columns)
    signal = (prior.mean**2 + np.diagonal(prior.covariance)) * information / priors.scale**2
    best = np.argsort(-signal)[:_MOST_LINES]
    return np.sort(best[signal[best] > _LEAST_SIGNAL])


def _scanned(
    arm: Arm, prior: LinePrior, members: np.ndarray, number: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations (G, f, f) and right-hand sides (G, f) at all velocities."""
    free, (lower, upper) = free_lines(), arm.instrument.bounds
    f = int(number.max()) + 1
    members, part, width = with_broad(members, _WIDTH, prior)
    centre = LINES.wavelength[free.line[members]] * (1.0 + _redshifts(prior.redshift)[:, None])  # (G, m)
    sigma = arm.widths(centre, width, 0.0)[0]
    first = np.searchsorted(upper, centre - _DRAWN * sigma)
    span = int((np.searchsorted(lower, centre + _DRAWN * sigma) - first).max()) + 1
    window = first[..., None] + np.arange(max(span, 1))
    index = np.clip(window, 0, lower.size - 1)
    density = pixel_mean(lower[index], upper[index], centre[..., None], sigma[..., None])
    density *= (index == window) * (part * free.share[members])[:, None] / ANGSTROM_PER_UM
    near = np.unique(index)
    row = np.arange(VELOCITY.size)[:, None, None] * f + number[free.column[members]][:, None]
    columns = arm.drawn_near(row, index, density, VELOCITY.size * f, near).reshape(-1, f, near.size)
    left = columns @ arm.projected[near]
    normal = (columns * arm.weight[near]) @ columns.transpose(0, 2, 1)
    return normal - arm.taken_by_continuum(columns, near), left
