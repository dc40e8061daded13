"""Wiener: the best linear estimate for a Gaussian-process signal seen through the line-spread operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.baselines.nodes import STEP, nodes_for
from kspecsr.baselines.pixel_noise import LAG_COVARIANCE, LOW_FREQUENCY_VARIANCE
from kspecsr.baselines.protocol import checked_arrays
from kspecsr.baselines.regularised import regularised_solution

_FAINTEST = 0.1  # signal power in units of the noise's, below which an excess cannot be told from zero


@dataclass(frozen=True)
class Wiener:
    """``K M^T (M K M^T + N)^-1 d`` with K = (amplitude S)^2 exp(-|u - u'| / length) on the nodes.

    u is the place in prism pixels and S the spectrum's own root-mean-square signal, from its power in
    excess of the noise, weighted by 1 / error^2; so the result scales with its input and adapts to S/N.
    N is white with 1.67 times the quoted variances: the power that the correlated noise has on
    the scales of several pixels that the line-spread function passes. It is solved in the equal form
    ``(M^T N^-1 M + K^-1)^-1 M^T N^-1 d``, in which everything is banded. Errors are propagated with
    the noise's true covariance, S being taken as given.

    Attributes:
        amplitude: standard deviation of the prior in units of S.
        length: correlation length of the prior [prism pixels].
    """

    amplitude: float = 3.0
    length: float = 100.0
    name: ClassVar[str] = "wiener"

    def __post_init__(self) -> None:
        for name in ("amplitude", "length"):
            if not getattr(self, name) > 0:
                raise ValueError(f"wiener: expected a {name} above 0, got {getattr(self, name)!r}")

    @property
    def parameters(self) -> dict[str, float]:
        """Amplitude and correlation length of the prior."""
        return {"amplitude": self.amplitude, "length": self.length}

    def reconstruct(
        self, prism_flux: np.ndarray, prism_error: np.ndarray, prism_mask: np.ndarray, grid: UnifiedGrid
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `kspecsr.baselines.protocol.Baseline.reconstruct`."""
        nodes = nodes_for(grid)
        view = nodes.view
        flux, error, mask = checked_arrays(prism_flux, prism_error, prism_mask, view.wavelength.size)
        weight = np.where(~mask & view.usable, error**-2.0, 0.0)
        variance = self.amplitude**2 * signal_power(flux, weight)
        penalty = inverse_covariance(nodes.position.size, self.length) / variance[:, None, None]
        fine, sigma = regularised_solution(flux, error, weight / LOW_FREQUENCY_VARIANCE, penalty, nodes)
        gone = view.uncovered(mask)
        return np.where(gone, np.nan, fine), np.where(gone, np.nan, sigma)


def signal_power(flux: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean square S^2 (B,) of the signal: weighted power less that of the noise, and at least a tenth of it.

    Args:
        flux: (B, P).
        weight: (B, P) 1 / quoted variance; 0 = no weight.
    """
    total = np.maximum(weight.sum(axis=1), np.finfo(float).tiny)
    noise = np.maximum(LAG_COVARIANCE[0] * (weight > 0).sum(axis=1), 1.0) / total
    return np.maximum((weight * flux**2).sum(axis=1) / total - noise, _FAINTEST * noise)


def inverse_covariance(count: int, length: float) -> np.ndarray:
    """Upper bands (2, n) of the inverse of exp(-|u_i - u_j| / length) on the nodes."""
    step = np.exp(-STEP / length)
    bands = np.empty((2, count))
    bands[0] = -step
    bands[1] = 1.0 + step**2
    bands[1, [0, -1]] = 1.0
    return bands / (1.0 - step**2)
