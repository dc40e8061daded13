"""Scatter that a few wild values do not move."""

from __future__ import annotations

import numpy as np

_SIGMA_PER_MAD = 1.4826  # of a normal distribution


def robust_scatter(values: np.ndarray) -> float:
    """Median absolute deviation from the median, as one sigma of a normal distribution; NaN without values.

    Args:
        values: (n,) finite.
    """
    if np.size(values) == 0:
        return float("nan")
    return float(_SIGMA_PER_MAD * np.median(np.abs(values - np.median(values))))


def robust_rms(values: np.ndarray) -> float:
    """Median absolute value, as the root mean square of a normal distribution about zero; NaN without values.

    Args:
        values: (n,) finite.
    """
    if np.size(values) == 0:
        return float("nan")
    return float(_SIGMA_PER_MAD * np.median(np.abs(values)))
