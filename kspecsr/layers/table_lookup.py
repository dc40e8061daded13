"""Values along a uniform table by linear interpolation, inside a graph."""

from __future__ import annotations

import numpy as np
from keras import ops


def look_up(place, table: np.ndarray):
    """Linear interpolation in a table.

    Args:
        place: any shape, fractional index; beyond the table its end values hold.
        table: (n,) plain array.

    Returns:
        The shape of ``place``.
    """
    n = table.shape[0]
    place = ops.clip(place, 0.0, n - 1.0)
    left = ops.minimum(ops.floor(place), n - 2.0)
    share = place - left
    left = ops.cast(left, "int32")
    values = ops.convert_to_tensor(table.astype("float32"))
    return ops.take(values, left) * (1.0 - share) + ops.take(values, left + 1) * share


def sample(x, place):
    """Samples channels at fractional positions along the pixels, by linear interpolation.

    Args:
        x: (B, n, C).
        place: (B, m) fractional pixel; beyond the ends the end values hold.

    Returns:
        (B, m, C).
    """
    n = x.shape[1]
    place = ops.clip(place, 0.0, n - 1.0)
    left = ops.minimum(ops.floor(place), n - 2.0)
    share = (place - left)[..., None]
    left = ops.cast(left, "int32")[..., None]
    return (
        ops.take_along_axis(x, left, axis=1) * (1.0 - share)
        + ops.take_along_axis(x, left + 1, axis=1) * share
    )
