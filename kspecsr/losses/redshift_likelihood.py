"""Likelihood of a redshift under P(z) as a mixture of narrow normals on its bins (DESIGN section 4)."""

from __future__ import annotations

import numpy as np
from keras import ops

from kspecsr.losses.gaussian_likelihood import HALF_LOG_TWO_PI, masked_mean
from kspecsr.predictive import BIN_WIDTH


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
