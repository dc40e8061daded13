"""Unresolved lines on the prism's pixels, for whole batches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from data_pipeline.instrument import PRISM, Instrument, load_instrument
from data_pipeline.lines.profile import SPEED_OF_LIGHT
from kspecsr.configuration.model import check_range


@dataclass(frozen=True)
class DirectFitConfig:
    """How prism lines are fitted.

    Attributes:
        knots: hat functions of the continuum, evenly spaced in prism pixels.
        smoothness: weight of the continuum's second differences over that of its data: too small to be seen
            where there are data, it carries the continuum across gaps.
        systematic: error of the model as a share of the local amplitude (imperfect line-spread function, flat
            field), added to the quoted errors in quadrature.
        ridge: added to the unit diagonal of the lines' normal equations: shares flux evenly between lines
            that cannot be told apart.
        resolution_scale: factor on the tabulated resolving power; None for what reduced spectra show.
        zero_point_shift: by how many prism pixels lines lie redwards of where their redshift puts them.
        velocity_sigma: intrinsic width of the lines [km/s].
        correlated_noise: released prism pixels share detector pixels; False for independent pixels whose
            scatter is the quoted error.

    Raises:
        ValueError: for a number that makes no sense, naming it.
    """

    knots: int = 30
    smoothness: float = 1e-4
    systematic: float = 0.02
    ridge: float = 3e-4
    resolution_scale: float | None = None
    zero_point_shift: float = 0.0
    velocity_sigma: float = 50.0
    correlated_noise: bool = True

    def __post_init__(self) -> None:
        check_range("direct fit, knots", self.knots, 4)
        for name in ("systematic", "velocity_sigma"):
            check_range(f"direct fit, {name}", getattr(self, name), 0.0)
        for name in ("smoothness", "ridge"):
            check_range(f"direct fit, {name}", getattr(self, name), 1e-12)
        if self.resolution_scale is not None:
            check_range("direct fit, resolution_scale", self.resolution_scale, 0.1, 10.0)
        check_range("direct fit, zero_point_shift", self.zero_point_shift, -10.0, 10.0)


_REACH = 6.0  # sigma on either side: 2e-9 of the flux lies beyond


@dataclass(frozen=True, eq=False)
class PixelWindows:
    """Profiles of lines on the pixels around each.

    Attributes:
        middle: (...) pixel of the line's centre, which may lie beyond the ends.
        index: (..., w) pixels; where ``density`` is 0 an index may be that of another pixel.
        density: (..., w) flux density per unit flux [1/Angstrom].
    """

    middle: np.ndarray
    index: np.ndarray
    density: np.ndarray


def windows(edges: np.ndarray, centre: np.ndarray, sigma: np.ndarray, half: int) -> PixelWindows:
    """Gaussian lines integrated over the pixels around them.

    Args:
        edges: (n + 1,) of the pixels [um].
        centre: (...) observed wavelengths [um].
        sigma: (...) widths without the pixel's [um].
        half: pixels on either side.
    """
    last = edges.size - 2
    middle = np.clip(np.searchsorted(edges, centre, "right") - 1, -half - 1, last + half + 1)
    index = middle[..., None] + np.arange(-half, half + 1)
    inside = (index >= 0) & (index <= last)
    corner = np.clip(middle[..., None] + np.arange(-half, half + 2), 0, last + 1)
    cumulative = ndtr((edges[corner] - centre[..., None]) / sigma[..., None])
    index = np.clip(index, 0, last)
    width = (edges[index + 1] - edges[index]) * 1e4  # Angstrom
    return PixelWindows(middle, index, inside * np.diff(cumulative, axis=-1) / width)


def scattered(rows: np.ndarray, index: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Sums of values that belong to rows and pixels, as an array (rows, pixels).

    Args:
        rows: row of each value, broadcast against ``index``.
        index: pixel of each value.
        values: of the shape of ``index``.
        shape: of the result.
    """
    flat = (rows * shape[1] + index).ravel()
    return np.bincount(flat, values.ravel(), minlength=shape[0] * shape[1]).reshape(shape)


class PrismOptics:
    """The prism's pixels and line-spread function with the options of a fit.

    Args:
        config: resolving power, zero point and width of the lines.

    Attributes:
        wavelength: (P,) centres [um].
        edges: (P + 1,) [um].
        half: pixels on either side of a line that it can reach.
    """

    def __init__(self, config: DirectFitConfig):
        prism = load_instrument(PRISM, scale=config.resolution_scale)
        self._prism, self._velocity, self._shift = prism, config.velocity_sigma, config.zero_point_shift
        self.wavelength = prism.wavelength
        self.edges = np.append(prism.bounds[0], prism.bounds[1, -1])
        self._width = np.diff(self.edges)
        self.half = int(np.ceil(_REACH * (self.sigma(self.wavelength) / self._width).max())) + 1

    def place(self, rest: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """(B, K) wavelengths [um] at which the prism shows rest wavelengths (K,) at redshifts (B,)."""
        wavelength = rest * (1.0 + redshift[:, None])
        return wavelength + self._shift * np.interp(wavelength, self.wavelength, self._width)

    def sigma(self, wavelength: np.ndarray) -> np.ndarray:
        """Width of a line [um], the pixel's own taken off."""
        width = np.interp(wavelength, self.wavelength, self._width)
        return line_sigma(self._prism, wavelength, width, self._velocity)

    def lines(self, centre: np.ndarray) -> PixelWindows:
        """Profiles of lines (B, K) at observed wavelengths [um]."""
        return windows(self.edges, centre, self.sigma(centre), self.half)


@lru_cache(maxsize=8)
def prism_optics(config: DirectFitConfig) -> PrismOptics:
    """The prism with these options; remembered."""
    return PrismOptics(config)


def line_sigma(
    instrument: Instrument, wavelength: np.ndarray, width: np.ndarray, velocity: float
) -> np.ndarray:
    """One-sigma width [um] of a line before it is integrated over pixels.

    The instrument's width includes the pixel, whose variance the integration puts back.

    Args:
        instrument: with its line-spread function.
        wavelength: [um].
        width: of the pixels there [um].
        velocity: intrinsic one-sigma width [km/s].
    """
    variance = np.maximum(instrument.sigma(wavelength) ** 2 - width**2 / 12.0, 1e-4 * width**2)
    return np.sqrt(variance + (velocity / SPEED_OF_LIGHT * wavelength) ** 2)
