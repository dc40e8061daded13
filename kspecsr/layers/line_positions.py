"""Where the lines of the list fall at a redshift."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from data_pipeline.lines import load_lines
from kspecsr.layers.geometry import position_lookup, prism_wavelength, unified_grid
from kspecsr.layers.table_lookup import look_up


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
