"""Pixel grids: bounds of pixels from their centres, the unified grid, cubic weights (NumPy only)."""

from dataclasses import dataclass

import numpy as np


def pixel_bounds(wavelength: np.ndarray) -> np.ndarray:
    """Lower and upper bound of each pixel.

    Bounds lie half-way between centres, except beside a gap: there a pixel keeps the width of its
    neighbourhood, so that a detector gap stays uncovered instead of being shared out.

    Args:
        wavelength: (n,) pixel centres [um], strictly increasing, n >= 2.

    Returns:
        (2, n) lower and upper bounds [um].

    Raises:
        ValueError: for fewer than two pixels or an order that is not increasing.
    """
    wavelength = np.asarray(wavelength, dtype=np.float64)
    if wavelength.ndim != 1 or wavelength.size < 2:
        raise ValueError(f"expected two or more pixel centres in one dimension, got shape {wavelength.shape}")
    step = np.diff(wavelength)
    if np.any(step <= 0):
        row = int(np.argmax(step <= 0))
        raise ValueError(
            f"expected strictly increasing wavelengths, got {wavelength[row]:.6f} then "
            f"{wavelength[row + 1]:.6f} um at rows {row} and {row + 1}; sort them and merge duplicates"
        )
    half = 0.5 * np.minimum(step, 1.5 * _local_step(step))
    lower = wavelength - np.concatenate([half[:1], half])
    upper = wavelength + np.concatenate([half, half[-1:]])
    # One rounding for a bound that two pixels share, so that neither gap nor overlap of 1e-16 appears.
    shared = half == 0.5 * step
    lower[1:][shared] = upper[:-1][shared]
    return np.stack([lower, upper])


def _local_step(step: np.ndarray, window: int = 11) -> np.ndarray:
    """Running median of the steps between pixels, (n - 1,)."""
    if step.size < 3:
        return np.full(step.shape, step.min())
    reach = min(window, step.size if step.size % 2 else step.size - 1) // 2
    padded = np.pad(step, reach, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1)


_MOST_PIXELS = 200_000


@dataclass(frozen=True)
class UnifiedGrid:
    """The logarithmic grid on which pairs are aligned (paper section 3.1).

    Attributes:
        start: first wavelength [um].
        stop: last wavelength is the largest grid point not above this [um].
        sampling: lambda / dlambda of one pixel, the same everywhere.

    Raises:
        ValueError: for bounds out of order, numbers that are not finite and more than 200,000 pixels.
    """

    start: float = 0.7
    stop: float = 5.3
    sampling: float = 3000.0

    def __post_init__(self) -> None:
        grid = "unified grid START STOP SAMPLING"
        if not np.isfinite([self.start, self.stop, self.sampling]).all():
            raise ValueError(
                f"{grid}: expected finite numbers, got {self.start:g} {self.stop:g} {self.sampling:g}"
            )
        if not 0 < self.start < self.stop:
            raise ValueError(
                f"{grid}: expected 0 < start < stop, got start={self.start}, stop={self.stop} um"
            )
        if self.sampling < 10:
            raise ValueError(
                f"{grid}: expected sampling (lambda / dlambda) of 10 or more, got {self.sampling:g}"
            )
        if np.log(self.stop / self.start) * self.sampling > _MOST_PIXELS:
            raise ValueError(
                f"{grid}: expected at most {_MOST_PIXELS} pixels (SAMPLING x ln(STOP / START)), got "
                f"{self.start:g} {self.stop:g} {self.sampling:g}, which gives {self.size}"
            )

    @property
    def size(self) -> int:
        """Number of pixels."""
        return int(np.floor(np.log(self.stop / self.start) * self.sampling + 1e-9)) + 1

    @property
    def wavelength(self) -> np.ndarray:
        """(size,) pixel centres [um]."""
        return self.start * np.exp(np.arange(self.size) / self.sampling)

    @property
    def bounds(self) -> np.ndarray:
        """(2, size) lower and upper bounds [um], at half steps of the logarithm."""
        edges = self.start * np.exp((np.arange(self.size + 1) - 0.5) / self.sampling)
        return np.stack([edges[:-1], edges[1:]])


UNIFIED_GRID = UnifiedGrid()


def cubic_weights(t):
    """Weights of four neighbouring values in Catmull-Rom interpolation: a cubic with continuous slope.

    ``t`` of the way from the second value to the third, 0-1, is an array or a tensor; so are the four
    weights.
    """
    return (
        0.5 * (-t + 2 * t**2 - t**3),
        0.5 * (2 - 5 * t**2 + 3 * t**3),
        0.5 * (t + 4 * t**2 - 3 * t**3),
        0.5 * (-(t**2) + t**3),
    )
