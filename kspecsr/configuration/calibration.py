"""The calibration of a model: its stated errors, P(z), what a good fit is. Needs no Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_pipeline.configuration import from_dict


@dataclass(frozen=True)
class ErrorScale:
    """Factor on stated errors, as a function of the stated S/N = abs(value) / error.

    A plain factor where there is one knot. Otherwise linear in log10(S/N) between knots and constant beyond;
    the S/N that follows rises with the stated one.

    Attributes:
        start: log10(S/N) of the first knot.
        step: spacing of the knots in log10(S/N).
        factor: factors at the knots.
    """

    start: float = 0.0
    step: float = 0.25
    factor: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not self.factor or not all(0.0 < one < np.inf for one in self.factor):
            raise ValueError(f"calibration: expected one or more positive factors, got {self.factor}")
        if not self.step > 0:
            raise ValueError(f"calibration: expected a positive step, got {self.step}")
        factor = np.array(self.factor)
        if np.any(np.diff(factor) > factor[:-1] * np.log(10.0) * self.step):
            raise ValueError(
                f"calibration: factors {self.factor} rise faster than the S/N, so that a larger stated S/N "
                "would become a smaller one; expected to rise by less than ln(10) x step from knot to knot"
            )

    def at(self, value: np.ndarray, error: np.ndarray) -> np.ndarray:
        """Factor for values with stated errors, of the same shape."""
        knots = self.start + self.step * np.arange(len(self.factor))
        return np.interp(log_signal_to_noise(value, error), knots, self.factor)


def log_signal_to_noise(value: np.ndarray, error: np.ndarray) -> np.ndarray:
    """log10 of abs(value) / error, not below -4."""
    return np.log10(np.maximum(np.abs(value) / error, 1e-4))


@dataclass(frozen=True)
class FitTable:
    """Chi-square per pixel (CHI2NU) of simulated spectra, by median S/N per pixel: what is a usual one.

    `kspecsr.layers.calibration.FitProbability` reads probabilities off it.

    Attributes:
        place: (K,) log10 of the median S/N of good pixels at the knots.
        share: (Q,) shares of spectra with a larger chi-square, falling.
        chi_square: (K, Q) chi-square that has this share beyond it.
    """

    place: tuple[float, ...]
    share: tuple[float, ...]
    chi_square: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        place, share = np.array(self.place), np.array(self.share)
        rows = {len(row) for row in self.chi_square}
        if not place.size or share.size < 2 or len(self.chi_square) != place.size or rows != {share.size}:
            raise ValueError(
                f"calibration: expected a row of chi-squares for each of {place.size} S/N, 1 or more, and in "
                f"it one for each of {share.size} shares, 2 or more; got {len(self.chi_square)} rows of "
                f"{', '.join(map(str, sorted(rows)))}"
            )
        if not np.all(np.diff(place) > 0) or not np.all(np.diff(self.chi_square) > 0):
            raise ValueError("calibration: expected S/N and the chi-squares of each row to rise, they do not")
        if (
            not np.all(np.diff(share) < 0)
            or not 0 < share[-1] < share[0] <= 1
            or np.min(self.chi_square) <= 0
        ):
            raise ValueError(
                "calibration: expected shares that fall between 1 and 0, and positive chi-squares"
            )


@dataclass(frozen=True)
class Calibration:
    """Calibration of everything that a model states with an uncertainty.

    Attributes:
        sr1: scale of the first stage's pixel errors.
        continuum: scale of the continuum's part of the pixel errors, by the continuum's S/N.
        line_pixels: scale of the lines' part of the pixel errors, by the S/N of the lines in a pixel.
        line_flux: scale of the errors of line fluxes.
        redshift_exponent: exponent of P(z), which is normalised again: above 1 narrows it.
        fit: what chi-square is usual; None, as in older calibrations: no probability of the fit is stated.
        measured_on: description of the galaxies that it was measured on, plain JSON values.
    """

    sr1: ErrorScale = field(default_factory=ErrorScale)
    continuum: ErrorScale = field(default_factory=ErrorScale)
    line_pixels: ErrorScale = field(default_factory=ErrorScale)
    line_flux: ErrorScale = field(default_factory=ErrorScale)
    redshift_exponent: float = 1.0
    fit: FitTable | None = None
    measured_on: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.0 < self.redshift_exponent < np.inf:
            raise ValueError(
                f"calibration: expected a positive exponent of P(z), got {self.redshift_exponent}"
            )

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], where: str = "calibration") -> Calibration:
        """Calibration from plain JSON values.

        Raises:
            ConfigurationError, ValueError: for unknown keys or values without sense.
        """
        return from_dict(cls, dict(content), where)
