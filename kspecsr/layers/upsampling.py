"""From the prism's own pixels to the unified grid, by a fixed operator."""

from __future__ import annotations

import keras

from kspecsr.layers.block_operator import BlockOperator
from kspecsr.layers.geometry import prism_wavelength, upsampling_matrix


@keras.saving.register_keras_serializable("kspecsr")
class Upsampling(BlockOperator):
    """Cubic interpolation in prism pixels (paper section 3.1, as a layer).

    Args:
        grid: start [um], stop [um] and sampling of the unified grid.

    Input shape:
        (B, P, C) on the prism's pixels.

    Output shape:
        (B, N, C) on the unified grid.
    """

    def __init__(self, grid, **options):
        super().__init__(**options)
        self.grid = tuple(float(value) for value in grid)

    def matrix(self):
        """(N, P)."""
        return upsampling_matrix(self.grid)

    def get_config(self):
        """Arguments, for saving."""
        return {**super().get_config(), "grid": list(self.grid)}

    @property
    def pixels(self) -> int:
        """P."""
        return prism_wavelength().size
