"""Losses of the line branch: fluxes and presence, both supervised (DESIGN section 4)."""

from __future__ import annotations

from keras import ops

from kspecsr.losses.gaussian_likelihood import gaussian_nll, masked_mean

_RIGHT = 0.004  # |dz| / (1 + z) up to which the tokens look at the right lines
_WRONG = 0.01  # beyond this they look at other lines or at none: nothing is present there


def redshift_is(redshift, true_redshift):
    """Whether the redshift that the tokens used is right, and whether it is wrong, (B,) 1 or 0 each.

    Between the two limits neither holds: such spectra teach nothing about lines. Without a true redshift
    there is no source: any redshift is wrong.
    """
    known = ops.isfinite(true_redshift)
    true = ops.where(known, true_redshift, 0.0)
    off = ops.abs(redshift - true) / (1.0 + true)
    right = ops.logical_and(known, off < _RIGHT)
    wrong = ops.logical_or(ops.logical_not(known), off > _WRONG)
    return ops.cast(right, "float32"), ops.cast(wrong, "float32")


def line_flux_nll(line_flux, line_error, use, mean, sigma, unit):
    """Mean negative log-likelihood of arcsinh(flux / unit) over the lines that count.

    Args:
        line_flux: (B, K) true or measured.
        line_error: (B, K) one sigma of a measurement, 0 for the truth.
        use: (B, K) 1 or 0.
        mean: (B, K) predicted mean of arcsinh(flux / unit).
        sigma: (B, K) its one-sigma error.
        unit: (B, K) the line's own noise.

    Returns:
        A number.
    """
    unit = ops.maximum(unit, 1e-6)
    ratio = ops.clip(line_flux / unit, -1e5, 1e5)
    own = line_error / unit / ops.sqrt(1.0 + ratio**2)  # error of the arcsinh
    return masked_mean(gaussian_nll(ops.arcsinh(ratio), mean, sigma**2 + own**2), use)


def presence_loss(detectable, logit, use):
    """Cross-entropy of presence: a line that the reference would detect at 3 sigma is present.

    Args:
        detectable: (B, K) 1 or 0.
        logit: (B, K).
        use: (B, K) 1 or 0.

    Returns:
        A number.
    """
    entropy = ops.softplus(logit) - detectable * logit
    return masked_mean(entropy, use)
