"""Shares of measurements with their bootstrap intervals over galaxies."""

from __future__ import annotations

import numpy as np

from kspecsr.evaluation.estimate import RESAMPLES, Estimate
from kspecsr.evaluation.metrics.resampled_sums import estimates_of_sums


def rate_estimate(
    galaxy: np.ndarray, hit: np.ndarray, among: np.ndarray, resamples: int = RESAMPLES
) -> Estimate | None:
    """Share of the measurements that are hits; None without measurements.

    Args:
        galaxy: (B,) unit of resampling.
        hit: (B,) or (B, K) bool.
        among: of the same shape, bool: what counts as a measurement.
        resamples: how often galaxies are drawn anew.
    """
    among = np.asarray(among, bool).reshape(len(galaxy), -1)
    hit = np.asarray(hit, bool).reshape(among.shape) & among
    rows = np.stack([hit.sum(axis=1), among.sum(axis=1)], axis=1)
    found = estimates_of_sums(
        galaxy, rows, {"rate": lambda sums: sums[..., 0] / np.maximum(sums[..., 1], 1)}, resamples
    )
    return found.get("rate")
