"""What gratings added to a result: each arm as it was fitted, and where the spectrum's pixels come from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from data_pipeline.instrument import SPEED_OF_LIGHT
from data_pipeline.spectrum import ObservedSpectrum


@dataclass(frozen=True)
class Measured:
    """A number with its one-sigma error."""

    value: float
    error: float

    def sigma_from(self, value: float, scatter: float = 0.0) -> float:
        """By how many errors, of its own and a further scatter, it lies from a value."""
        return abs(self.value - value) / float(np.hypot(self.error, scatter))


@dataclass(frozen=True, eq=False)
class ArmFit:
    """One grating of a joint fit; arrays (n,) are on its pixels, in erg/s/cm2/A on its own flux scale.

    Attributes:
        spectrum: as read.
        scale: flux scale, prism over grating, at the arm's middle.
        drift: change of its logarithm from the middle to the red end.
        shift: by which the arm's lines lie redwards of the common redshift [km/s].
        noise: scatter of pixels over the quoted errors.
        left_out: good pixels that were left out, because no line makes them.
        chi_square: per good pixel, with the noise as measured.
        lines: (n,) fitted lines.
        continuum: (n,) fitted continuum.
        good: (n,) bool, pixels that were fitted.
    """

    spectrum: ObservedSpectrum
    scale: Measured
    drift: float
    shift: Measured
    noise: float
    left_out: int
    chi_square: float
    lines: np.ndarray
    continuum: np.ndarray
    good: np.ndarray

    @property
    def name(self) -> str:
        """Its disperser."""
        return self.spectrum.meta.disperser

    @property
    def span(self) -> tuple[float, float]:
        """First and last good wavelength [um]."""
        seen = self.spectrum.wavelength[self.good]
        return float(seen[0]), float(seen[-1])

    @property
    def residual(self) -> np.ndarray:
        """(n,) flux less the fit, in units of the measured noise; NaN where not fitted."""
        sigma = np.where(self.good, self.noise * self.spectrum.error, np.nan)
        return (self.spectrum.flux - self.lines - self.continuum) / sigma


def place_in(wavelength: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Where in an arm's range (first and last good wavelength) wavelengths lie, -1 to 1; 0 is its middle."""
    low, high = span
    return np.clip(2.0 * (wavelength - low) / max(high - low, 1e-9) - 1.0, -1.0, 1.0)


def velocity_between(redshift: Measured, reference: Measured) -> Measured:
    """Velocity of a redshift against a reference, with the errors of both [km/s]."""
    stretch = SPEED_OF_LIGHT / (1.0 + reference.value)
    error = float(np.hypot(redshift.error, reference.error))
    return Measured(stretch * (redshift.value - reference.value), stretch * error)


@dataclass(frozen=True, eq=False)
class JointArms:
    """The gratings of a result, and what was found with them.

    Attributes:
        arms: each of them, in order of wavelength.
        prism: redshift of the prism alone.
        width: velocity width of the lines, one sigma [km/s].
        source: (N,) where each pixel of the spectrum comes from: sum of `SOURCES`; 0 where masked.
        disagreements: what lies beyond 3 sigma, a sentence with both values each.
        given: redshift near which the caller had lines looked for; NaN for none.
    """

    arms: tuple[ArmFit, ...]
    prism: Measured
    width: Measured
    source: np.ndarray
    disagreements: tuple[str, ...] = ()
    given: float = math.nan


SOURCES = {"PRISM": 1, "G140M": 2, "G235M": 4, "G395M": 8}


def arms_hash(hashes: Iterable[str]) -> str:
    """16 digits that tell one set of grating files from another, from their SHA-256; empty for none."""
    known = sorted(hashes)
    return hashlib.sha256("".join(known).encode()).hexdigest()[:16] if known else ""
