"""Tikhonov: least squares through the line-spread operator with a penalty on curvature."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.baselines.nodes import STEP, nodes_for
from kspecsr.baselines.protocol import checked_arrays
from kspecsr.baselines.regularised import regularised_solution


@dataclass(frozen=True)
class Tikhonov:
    """Minimises ``sum_p (d_p - (A f)_p)^2 / error_p^2 + strength w integral (f'')^2 du``.

    The curvature f'' is along u, the place in prism pixels, in which the line-spread function is equally
    wide everywhere. w is the spectrum's median of 1 / error^2, so that the result scales with its input
    and noisy ends are smoothed more. f lives on two nodes per prism pixel (`kspecsr.baselines.nodes`). Quoted
    errors weight the pixels as if independent; errors are propagated with their true covariance.

    Attributes:
        strength: lambda; at 1 the penalty equals the data's weight at wavelengths of 6.3 prism pixels.
    """

    strength: float = 0.1
    name: ClassVar[str] = "tikhonov"

    def __post_init__(self) -> None:
        if not self.strength > 0:
            raise ValueError(f"tikhonov: expected a strength above 0, got {self.strength!r}")

    @property
    def parameters(self) -> dict[str, float]:
        """Strength of the penalty."""
        return {"strength": self.strength}

    def reconstruct(
        self, prism_flux: np.ndarray, prism_error: np.ndarray, prism_mask: np.ndarray, grid: UnifiedGrid
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `kspecsr.baselines.protocol.Baseline.reconstruct`."""
        nodes = nodes_for(grid)
        view = nodes.view
        flux, error, mask = checked_arrays(prism_flux, prism_error, prism_mask, view.wavelength.size)
        good = ~mask & view.usable
        weight = np.where(good, error**-2.0, 0.0)
        penalty = self.strength * median_weight(weight)[:, None, None] * _curvature(nodes.position.size)
        fine, sigma = regularised_solution(flux, error, weight, penalty, nodes)
        gone = view.uncovered(mask)
        return np.where(gone, np.nan, fine), np.where(gone, np.nan, sigma)


def median_weight(weight: np.ndarray) -> np.ndarray:
    """Median (B,) of the weights (B, P) that are not 0; 1 without any."""
    some = (weight > 0).any(axis=1)
    middle = np.ones(len(weight))
    middle[some] = np.nanmedian(np.where(weight[some] > 0, weight[some], np.nan), axis=1)
    return middle


@lru_cache(maxsize=4)
def _curvature(count: int) -> np.ndarray:
    """Upper bands (3, n) of D^T D / step^3: the integral of the squared second derivative over u."""
    difference = np.zeros((3, count))
    middle = np.arange(1, count - 1)
    for offset, value in ((-1, 1.0), (0, -2.0), (1, 1.0)):
        for other, product in ((-1, 1.0), (0, -2.0), (1, 1.0)):
            if other >= offset:
                np.add.at(difference, (2 - (other - offset), middle + other), value * product)
    return difference / STEP**3
