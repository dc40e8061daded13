"""The one noise-aware likelihood that all stages share (DESIGN section 4)."""

from __future__ import annotations

import math

import numpy as np
from keras import ops

from kspecsr.results.redshift import BIN_WIDTH

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def gaussian_nll(target, mean, variance):
    """Negative log-likelihood of each value.

    The variance is that of the prediction plus that of the target's own noise, so that the predicted error is
    the uncertainty of the true spectrum and not of a noisy copy of it.

    Args:
        target: any shape.
        mean: the same.
        variance: the same, positive.

    Returns:
        The same shape.
    """
    return 0.5 * ((target - mean) ** 2 / variance + ops.log(variance)) + HALF_LOG_TWO_PI


def masked_mean(values, use):
    """Mean over the entries that count; 0 where none does.

    Args:
        values: any shape.
        use: the same shape, bool or weights.
    """
    use = ops.cast(use, values.dtype)
    return ops.sum(ops.where(use > 0, values, 0.0) * use) / ops.maximum(ops.sum(use), 1e-6)


def spectrum_nll(target, target_error, target_mask, mean, error):
    """Mean negative log-likelihood over the good pixels of a batch.

    Args:
        target: (B, N) flux density.
        target_error: (B, N) its own one-sigma error, 0 for the noise-free truth.
        target_mask: (B, N) bool, True = bad.
        mean: (B, N) prediction.
        error: (B, N) its one-sigma error.

    Returns:
        A number.
    """
    nll = gaussian_nll(target, mean, error**2 + target_error**2)
    return masked_mean(nll, ops.logical_not(target_mask))


def redshift_nll(log_probability, redshift, step):
    """Mean negative log-likelihood of log(1 + z) over the spectra whose redshift is known.

    A cross-entropy whose target is softened by a Gaussian of one bin: P(z) is the mixture of normals in
    log(1 + z) at the bins, and this is minus its log density.

    Args:
        log_probability: (B, Z).
        redshift: (B,) true; NaN where unknown.
        step: of log(1 + z) between bins.

    Returns:
        A number.
    """
    known = ops.isfinite(redshift)
    x = ops.log1p(ops.where(known, redshift, 0.0))
    bins = (np.arange(log_probability.shape[-1]) * step).astype("float32")
    place = (x[:, None] - bins) / (BIN_WIDTH * step)
    component = -0.5 * place**2 - HALF_LOG_TWO_PI - float(np.log(BIN_WIDTH * step))
    log_density = ops.logsumexp(log_probability + component, axis=-1)
    return masked_mean(-log_density, known)
