"""Scores of P(z) as the mixture of normals in ln(1 + z) that it is: distribution function and CRPS."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtr

from kspecsr.evaluation.metrics.gaussian_calibration import normal_distance
from kspecsr.predictive import BIN_WIDTH


def redshift_pit(probability: np.ndarray, bins: np.ndarray, redshift: np.ndarray) -> np.ndarray:
    """(B,) probability of a redshift below the true one; as `kspecsr.predictive.RedshiftDistribution.cdf`.

    Args:
        probability: (B, Z), adds up to 1.
        bins: (Z,) ln(1 + z), evenly spaced.
        redshift: (B,) true.
    """
    width = BIN_WIDTH * (bins[1] - bins[0])
    return (probability * ndtr((np.log1p(redshift)[:, None] - bins) / width)).sum(axis=1)


def redshift_crps(probability: np.ndarray, bins: np.ndarray, redshift: np.ndarray) -> np.ndarray:
    """(B,) continuous ranked probability score of ln(1 + z), so in units of dz / (1 + z); less is better.

    E|X - x| - E|X - X'| / 2 for independent X, X' of the mixture (Grimit et al. 2006, Q. J. R. Meteorol. Soc.
    132, 2925); the second term is a sum over lags of the autocorrelation of the probabilities.

    Args:
        probability: (B, Z), adds up to 1.
        bins: (Z,) ln(1 + z), evenly spaced.
        redshift: (B,) true.
    """
    step, count = float(bins[1] - bins[0]), bins.size
    width = BIN_WIDTH * step
    first = (probability * normal_distance(np.log1p(redshift)[:, None] - bins, width)).sum(axis=1)
    length = next_fast_len(2 * count, real=True)
    power = np.abs(rfft(probability, length, axis=1)) ** 2
    overlap = irfft(power, length, axis=1)[:, :count]
    apart = normal_distance(step * np.arange(count), np.sqrt(2.0) * width)
    weight = np.where(np.arange(count) > 0, 2.0, 1.0)  # each lag but 0 in both directions
    return first - 0.5 * overlap @ (weight * apart)
