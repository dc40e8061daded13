"""The joint fit of prism and gratings as numbers, and what in it disagrees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from data_pipeline.instrument import SPEED_OF_LIGHT
from kspecsr.gratings.priors import LINES, ArmPriors
from kspecsr.results.arms import ArmFit, Measured
from kspecsr.results.broad import LIKELY_BROAD

_UNEXPLAINED = 8.0  # S/N of emission that must be a line
_HALF, _LINE_PIXELS = 5, 1.5  # pixels: of a filter for lines, and its width
_NEAR = 2000.0  # km/s on either side of a known line
_CORRELATED = 1.3  # noise of such a sum over that of independent pixels
POOR_ARM = 2.0  # chi-square per pixel, the noise as measured: 0.9 is usual, and 1.2 with lines of S/N 100
DOUBT = 3.0  # sigma beyond which two values disagree


@dataclass(frozen=True, eq=False)
class BroadFit:
    """Broad components in the gratings, if there are any.

    Attributes:
        probability: chance that there are any.
        width: velocity width of all of them, one sigma [km/s].
        column: (m,) free fluxes that were divided.
        flux: (m,) their broad part [erg/s/cm2].
        error: (m,) one sigma.
        narrow_error: (m,) one sigma of the rest.
    """

    probability: float
    width: Measured
    column: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    narrow_error: np.ndarray

    @property
    def likely(self) -> bool:
        """Whether there probably are any."""
        return self.probability > LIKELY_BROAD


@dataclass(frozen=True, eq=False)
class JointFit:
    """The peak of the posterior, and its covariance.

    Attributes:
        redshift: of the lines, common to all arms.
        prism: redshift of the prism alone.
        flux: (F,) free fluxes on the prism's scale [erg/s/cm2]; NaN where unknown.
        covariance: (F, F) of them [(erg/s/cm2)^2]; NaN where unknown.
        seen: (F,) bool, on good pixels of an arm.
        width: velocity width of the lines, one sigma [km/s].
        sharpness: logarithm of the factor on the gratings' tabulated resolving power.
        arms: the gratings.
        peak: redshift of the highest peak, where the error of ``redshift`` spans others too; None: the same.
        broad: broad components; None where they were not looked for.
    """

    redshift: Measured
    prism: Measured
    flux: np.ndarray
    covariance: np.ndarray
    seen: np.ndarray
    width: Measured
    sharpness: float
    arms: tuple[ArmFit, ...]
    peak: Measured | None = None
    broad: BroadFit | None = None

    @property
    def broad_share(self) -> np.ndarray | None:
        """(F,) of each flux in a broad component; None where there probably are none."""
        if self.broad is None or not self.broad.likely:
            return None
        share, total = np.zeros(self.flux.size), self.flux[self.broad.column]
        share[self.broad.column] = np.clip(self.broad.flux / np.where(total > 0, total, np.inf), 0.0, 1.0)
        return share

    @property
    def refutes(self) -> bool:
        """Whether the gratings' redshift differs from the prism's by more than 3 sigma."""
        return (self.peak or self.redshift).sigma_from(self.prism.value, self.prism.error) > DOUBT


def disagreements(fit: JointFit, priors: ArmPriors) -> Iterator[str]:
    """What differs by more than 3 sigma, priors included, and arms that are badly fitted, a sentence each."""
    z, prism = fit.peak or fit.redshift, fit.prism
    if fit.refutes:
        yield (
            f"redshift: prism {prism.value:.5f} +- {prism.error:.5f}, gratings {z.value:.5f} +- {z.error:.5f}"
        )
    for arm in fit.arms:
        shift, scale = arm.shift, arm.scale
        if arm.chi_square > POOR_ARM:
            yield (
                f"{arm.name} is badly fitted: chi-square {arm.chi_square:.1f} per pixel; its lines have "
                "other shapes than one width, or that and one of broad components, give them"
            )
        if shift.sigma_from(0.0, priors.shift) > DOUBT:
            yield (
                f"zero point of {arm.name}: {shift.value:+.0f} +- {shift.error:.0f} km/s from the redshift, "
                f"expected within {priors.shift:g} km/s (one sigma)"
            )
        if _logarithm(scale).sigma_from(float(np.log(priors.scale)), priors.scale_scatter) > DOUBT:
            yield (
                f"flux scale of {arm.name}: prism over grating {scale.value:.2f} +- {scale.error:.2f}, "
                f"expected {priors.scale:g} within {priors.scale_scatter:.0%} (one sigma)"
            )
        if (line := unexplained_line(arm, z.value)) is not None:
            yield (
                f"{arm.name} has an emission line at {line[0]:.4f} um (S/N {line[1]:.0f}) that no line of "
                f"the list explains at redshift {z.value:.4f}"
            )
    alike = float(np.sqrt(2.0) * priors.arm_scale)
    for one, other in combinations(fit.arms, 2):
        a, b = _logarithm(one.scale), _logarithm(other.scale)
        if a.sigma_from(b.value, float(np.hypot(b.error, alike))) > DOUBT:
            yield (
                f"flux scales: {one.name} {one.scale.value:.2f} +- {one.scale.error:.2f}, {other.name} "
                f"{other.scale.value:.2f} +- {other.scale.error:.2f}, expected alike within {alike:.0%}"
            )


def unexplained_line(arm: ArmFit, redshift: float) -> tuple[float, float] | None:
    """Place [um] and S/N of the brightest emission far from all known lines; None where none is sure.

    What is no galaxy's line at this redshift tells that the redshift is wrong, or a second source.
    """
    wave = arm.spectrum.wavelength
    kernel = np.exp(-0.5 * (np.arange(-_HALF, _HALF + 1) / _LINE_PIXELS) ** 2)
    signal = np.convolve(np.nan_to_num(arm.residual), kernel, "same") / np.sqrt(np.sum(kernel**2))
    centre = LINES.wavelength * (1.0 + redshift)
    near = np.abs(wave[:, None] / centre - 1.0).min(axis=1) < _NEAR / SPEED_OF_LIGHT
    signal = np.where(near | ~arm.good, 0.0, signal) / _CORRELATED
    best = int(signal.argmax())
    return (float(wave[best]), float(signal[best])) if signal[best] > _UNEXPLAINED else None


def _logarithm(number: Measured) -> Measured:
    return Measured(float(np.log(number.value)), number.error / number.value)
