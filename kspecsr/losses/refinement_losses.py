"""The paper's terms for the third stage, and ours for continuum and consistency (DESIGN section 4)."""

from __future__ import annotations

import numpy as np
from keras import ops

from kspecsr.consistency import PIXEL_NOISE_VARIANCE
from kspecsr.losses.gaussian_likelihood import masked_mean

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
