"""The paper's terms for the third stage, and ours for continuum and consistency (DESIGN section 4)."""

from __future__ import annotations

import numpy as np
from keras import ops

from data_pipeline.instrument.prism_pixels import PIXEL_NOISE_VARIANCE
from data_pipeline.resampling import cubic_weights
from kspecsr.losses.gaussian_likelihood import gaussian_nll, masked_mean

_HIGH_PASS = 61  # pixels of the running mean that is taken off
_MISMATCH = 0.05  # of the amplitude: the prism's line-spread function is known to a few per cent


def high_pass(x):
    """(B, N) less its running mean, which near an end is that of the pixels there are.

    Made of cumulative sums: the gradient of a pooling this wide takes as long as that of a large convolution.
    """
    pixels, half = x.shape[-1], _HIGH_PASS // 2
    level = ops.mean(x, axis=-1, keepdims=True)  # taken off first: sums of small numbers keep their digits
    total = ops.cumsum(ops.pad(x - level, ((0, 0), (half + 1, half))), axis=-1)
    place = np.arange(pixels)
    count = np.minimum(place + half + 1, pixels) - np.maximum(place - half, 0)
    return x - level - (total[:, _HIGH_PASS:] - total[:, :pixels]) / count.astype("float32")


def line_shape_loss(flux, target, good, line_mask, amplitude):
    """High-pass mismatch inside the line mask, over the high-pass signal there (paper section 3.3).

    Not weighted by noise, which would blind it at the cores of bright lines.

    Args:
        flux: (B, N) prediction.
        target: (B, N).
        good: (B, N) 1 or 0.
        line_mask: (B, N) 0-1.
        amplitude: (B, N) local amplitude, which keeps faint spectra from counting for more than they say.

    Returns:
        A number.
    """
    target = ops.where(good > 0, target, flux)  # gaps neither count nor leave an edge
    weight = line_mask * good
    difference = ops.abs(high_pass(flux - target))
    size = ops.abs(high_pass(ops.stop_gradient(target))) + 0.2 * amplitude
    ratio = ops.sum(weight * difference, axis=-1) / ops.maximum(ops.sum(weight * size, axis=-1), 1e-6)
    return ops.mean(ratio)


def outside_losses(correction, amplitude, line_mask):
    """Roughness and size of the correction outside the line mask (paper section 3.3).

    Args:
        correction: (B, N) what the third stage adds to the first.
        amplitude: (B, N).
        line_mask: (B, N).

    Returns:
        Two numbers.
    """
    relative = correction / amplitude
    outside = 1.0 - line_mask
    curvature = relative[:, 2:] - 2.0 * relative[:, 1:-1] + relative[:, :-2]
    rough = ops.log1p((30.0 * curvature) ** 2)
    return masked_mean(rough, outside[:, 1:-1]), masked_mean(ops.log1p(relative**2), outside)


def residual_l1(correction, amplitude):
    """Mean absolute correction in units of the local amplitude (paper section 3.4)."""
    return ops.mean(ops.abs(correction / amplitude))


def continuum_loss(continuum, target, known, line_mask, amplitude):
    """Mismatch of the continuum, most of all under lines, where the pixels do not show it.

    Args:
        continuum: (B, N) prediction.
        target: (B, N).
        known: (B,) 1 or 0.
        line_mask: (B, N).
        amplitude: (B, N).

    Returns:
        A number.
    """
    off = ops.sqrt(1e-4 + ((continuum - target) / amplitude) ** 2)
    return masked_mean(off, known[:, None] * (0.1 + line_mask))


def consistency_loss(flux, error, good, model):
    """Robust chi-square of the degraded output against the prism (DESIGN section 2, point 3).

    The square root saturates like a Cauchy likelihood: outlier pixels and a line-spread function that differs
    from the median one must not pull the output.

    Args:
        flux: (B, P) prism.
        error: (B, P).
        good: (B, P) 1 or 0.
        model: (B, P) degraded output.

    Returns:
        A number.
    """
    floor = _MISMATCH * ops.sqrt(flux**2 + np.float32(1e-12))
    chi = (flux - model) ** 2 / (PIXEL_NOISE_VARIANCE * error**2 + floor**2)
    return masked_mean(ops.log1p(chi), good)


_PLACE = 3e-4  # of 1 + z: about the scatter of inferred redshifts


def pixels_between(redshift, true_redshift, right, sampling):
    """(B,) pixels of the logarithmic grid from the true redshift to that at which lines are drawn.

    Args:
        redshift: (B,) at which lines are drawn.
        true_redshift: (B,), NaN without one.
        right: (B,) 1 where the lines are the right ones; 0 elsewhere, where nothing is moved.
        sampling: pixels per unit of ln(wavelength).
    """
    moved = right > 0
    ratio = ops.where(moved, (1.0 + redshift) / (1.0 + ops.where(moved, true_redshift, redshift)), 1.0)
    return sampling * ops.log(ratio)


def position_loss(redshift, true_redshift, judged):
    """How far lines are drawn from their true places, in units of what is usual; linear for large distances.

    Args:
        redshift: (B,) at which lines are drawn.
        true_redshift: (B,), NaN without one.
        judged: (B,) 1 where the redshift was inferred and is about right, else 0.

    Returns:
        A number.
    """
    true = ops.where(judged > 0, true_redshift, redshift)
    off = ops.log((1.0 + redshift) / (1.0 + true)) / _PLACE
    return masked_mean(ops.sqrt(1.0 + off**2) - 1.0, judged)


def shifted(values, pixels):
    """Values moved redward by a number of pixels, by four-point cubic interpolation; ends are held.

    Args:
        values: (B, N).
        pixels: (B,).
    """
    count = values.shape[1]
    whole = ops.floor(pixels)
    t = (1.0 - (pixels - whole))[:, None]  # of the way from the second of four pixels to the third
    first = np.arange(count, dtype="int32") - ops.cast(whole, "int32")[:, None] - 1
    row = ops.arange(ops.shape(values)[0], dtype="int32")[:, None] * count
    flat = ops.reshape(values, (-1,))

    def at(step):
        return ops.take(flat, ops.clip(first + step, 0, count - 1) + row)

    return sum(weight * at(step) for step, weight in zip((-1, 0, 1, 2), cubic_weights(t), strict=True))


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
