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
    # clipped once more: a NaN becomes some integer, and a gather beyond the table would end the whole batch
    left = ops.clip(ops.cast(left, "int32"), 0, n - 2)
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
    n, channels, samples = x.shape[1], x.shape[2], place.shape[1]
    place = ops.clip(place, 0.0, n - 1.0)
    left = ops.minimum(ops.floor(place), n - 2.0)
    share = (place - left)[..., None]
    # rows of all spectra in one list: along an axis, TensorFlow goes by way of 64-bit indices
    row = ops.arange(ops.shape(x)[0], dtype="int32")[:, None] * n
    index = ops.reshape(ops.clip(ops.cast(left, "int32"), 0, n - 2) + row, (-1,))  # NaN: as above
    rows = ops.reshape(x, (-1, channels))
    before, after = (
        ops.reshape(ops.take(rows, index + step, axis=0), (-1, samples, channels)) for step in (0, 1)
    )
    return before * (1.0 - share) + after * share
