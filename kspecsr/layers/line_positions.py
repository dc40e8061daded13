"""Where the lines of the list fall at a redshift."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from data_pipeline.lines import load_lines
from kspecsr.layers.geometry import position_lookup, prism_wavelength, unified_grid
from kspecsr.layers.table_lookup import look_up, sample


@keras.saving.register_keras_serializable("kspecsr")
class LinePositions(keras.layers.Layer):
    """Observed wavelengths and pixels of the shipped line list.

    Args:
        grid: start [um], stop [um] and sampling of the unified grid.

    Input shape:
        (B,) redshift.

    Returns:
        Dictionary of (B, K): ``wavelength`` [um]; ``prism_pixel`` and ``grid_pixel``, fractional;
        ``prism_sigma`` and ``reference_sigma`` [um], one-sigma widths of an unresolved line without the
        pixel's; ``in_range``, 1 where the line lies on both grids.
    """

    def __init__(self, grid, **options):
        super().__init__(**options)
        self.grid = tuple(float(value) for value in grid)

    def call(self, redshift):
        """See the class."""
        rest = load_lines().wavelength.astype("float32")
        wavelength = rest * (1.0 + redshift[:, None])  # (B, K)
        table = position_lookup(self.grid)
        log = ops.log(wavelength)
        place = (log - table["start"]) / table["step"]
        prism_pixel = look_up(place, table["pixel"])
        grid_pixel = (log - np.log(self.grid[0])) * self.grid[2]
        last = unified_grid(self.grid).size - 1
        on_grid = ops.logical_and(grid_pixel >= 0.0, grid_pixel <= last)
        on_prism = ops.logical_and(prism_pixel >= 0.0, prism_pixel <= prism_wavelength().size - 1.0)
        return {
            "wavelength": wavelength,
            "prism_pixel": prism_pixel,
            "grid_pixel": grid_pixel,
            "prism_sigma": look_up(place, table["prism_sigma"]),
            "reference_sigma": look_up(place, table["reference_sigma"]),
            "in_range": ops.cast(ops.logical_and(on_grid, on_prism), "float32"),
        }

    def get_config(self):
        """Arguments, for saving."""
        return {**super().get_config(), "grid": list(self.grid)}


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


SCALES = (1, 3, 11)  # bins of the adaptive averages


@keras.saving.register_keras_serializable("kspecsr")
class LineWindows(keras.layers.Layer):
    """Samples channels around every line (paper section 3.3).

    Args:
        half_width: W; a window has 2 W + 1 samples.
        spacing: distance between samples [pixels of the input].

    Inputs:
        channels: (B, n, C).
        pixel: (B, K) fractional pixel of each line.

    Output shape:
        (B, K, 2 W + 1, C).
    """

    def __init__(self, half_width, spacing, **options):
        super().__init__(**options)
        self.half_width, self.spacing = int(half_width), float(spacing)

    def call(self, channels, pixel):
        """See the class."""
        offset = self.spacing * np.arange(-self.half_width, self.half_width + 1, dtype="float32")
        place = pixel[..., None] + offset  # (B, K, window)
        lines, window = pixel.shape[1], offset.size
        values = sample(channels, ops.reshape(place, (-1, lines * window)))
        return ops.reshape(values, (-1, lines, window, channels.shape[-1]))

    def get_config(self):
        """Arguments, for saving."""
        return {**super().get_config(), "half_width": self.half_width, "spacing": self.spacing}


@keras.saving.register_keras_serializable("kspecsr")
class MultiScalePooling(keras.layers.Layer):
    """Adaptive averages of a window in 1, 3 and 11 bins, side by side (paper section 3.3).

    Input shape:
        (B, window, C).

    Output shape:
        (B, 15 C); fewer where the window has fewer samples than bins.
    """

    def build(self, input_shape):
        """Averaging matrix."""
        window = input_shape[1]
        rows = []
        for bins in SCALES:
            if bins > window:
                continue
            for b in range(bins):
                low, high = b * window // bins, -(-(b + 1) * window // bins)
                rows.append(np.isin(np.arange(window), np.arange(low, high)) / (high - low))
        self._average = np.array(rows, "float32")  # (bins, window)

    def call(self, x):
        """See the class."""
        average = ops.cast(ops.convert_to_tensor(self._average), x.dtype)
        pooled = ops.matmul(average, x)  # (B, bins, C)
        return ops.reshape(pooled, (-1, self._average.shape[0] * x.shape[-1]))
