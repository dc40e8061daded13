"""Where lines are plausible at a redshift."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from kspecsr.layers.geometry import unified_grid

_REACH = 32  # pixels of the unified grid at sampling 3000, on either side of a line


@keras.saving.register_keras_serializable("kspecsr")
class LineMask(keras.layers.Layer):
    """Soft mask of the line list at a redshift (paper section 3.3; DESIGN section 4).

    Every line in range adds a Gaussian with unit peak whose width is that of the reference instrument and of
    the redshift's own error together; the sum is capped at 1. It says where lines may be, not that they are.

    Args:
        grid: start [um], stop [um] and sampling of the unified grid.

    Inputs:
        grid_pixel, wavelength, reference_sigma, in_range: (B, K) of `LinePositions`.
        redshift, redshift_error: (B,).

    Output shape:
        (B, N), 0-1.
    """

    def __init__(self, grid, **options):
        super().__init__(**options)
        self.grid = tuple(float(value) for value in grid)

    def call(self, grid_pixel, wavelength, reference_sigma, in_range, redshift, redshift_error):
        """See the class."""
        pixels = unified_grid(self.grid).size
        reach = int(np.ceil(_REACH * self.grid[2] / 3000.0))
        uncertain = (redshift_error / (1.0 + redshift))[:, None]
        width = self.grid[2] * ops.sqrt((reference_sigma / wavelength) ** 2 + uncertain**2 + 1e-12)
        width = ops.minimum(width, reach / 3.0)  # pixels
        nearest = ops.round(ops.clip(grid_pixel, -1e6, 1e6))
        offset = np.arange(-reach, reach + 1)
        place = offset.astype("float32") - (grid_pixel - nearest)[..., None]
        shape = ops.exp(-0.5 * (place / width[..., None]) ** 2) * in_range[..., None]
        index = ops.cast(nearest, "int32")[..., None] + offset.astype("int32")
        inside = ops.logical_and(index >= 0, index < pixels)
        batch = ops.shape(grid_pixel)[0]
        row = ops.arange(batch, dtype="int32")[:, None, None] * pixels
        flat = ops.reshape(ops.where(inside, index, 0) + row, (-1,))
        shape = ops.reshape(ops.where(inside, shape, 0.0), (-1,))
        total = ops.segment_sum(shape, flat, num_segments=batch * pixels)
        return ops.stop_gradient(ops.minimum(ops.reshape(total, (batch, pixels)), 1.0))

    def get_config(self):
        """Arguments, for saving."""
        return {**super().get_config(), "grid": list(self.grid)}
