"""The truth moved to the redshift at which lines are drawn.

An inferred redshift is off by about a pixel. Judged at the true places, lines that are as sharp as the truth
lose to broad and shallow ones; judged where they are drawn, they do not. That they may lie elsewhere is for
the errors to say, which are judged at the true places.
"""

from __future__ import annotations

import numpy as np
from keras import ops

from kspecsr.losses.gaussian_likelihood import masked_mean

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

    weights = (
        0.5 * (-t + 2 * t**2 - t**3),
        0.5 * (2 - 5 * t**2 + 3 * t**3),
        0.5 * (t + 4 * t**2 - 3 * t**3),
        0.5 * (-(t**2) + t**3),
    )
    return sum(weight * at(step) for step, weight in zip((-1, 0, 1, 2), weights, strict=True))
