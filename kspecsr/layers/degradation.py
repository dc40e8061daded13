"""The instrument as a layer: a sharp spectrum to what the prism would have seen."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from kspecsr.layers.geometry import PRISM_RESOLUTION_SCALE, degradation_matrix


@keras.saving.register_keras_serializable("kspecsr")
class PrismDegradation(keras.layers.Layer):
    """Line-spread operator from the unified grid to the prism's pixels (DESIGN section 2, point 3).

    The same matrix as `Instrument.line_spread_operator`, as a dense product: on a CPU that is faster than
    gathering 400 neighbours for each of 700 pixels. Pixels whose kernel reaches beyond the grid are scaled to
    the part that they see.

    Args:
        grid: start [um], stop [um] and sampling of the unified grid.
        resolution_scale: factor on the tabulated prism resolving power (JADES: 1.22).

    Input shape:
        (B, N) on the unified grid.

    Output shape:
        (B, P) on the prism's pixels.
    """

    def __init__(self, grid, resolution_scale=PRISM_RESOLUTION_SCALE, **options):
        super().__init__(**options)
        self.grid = tuple(float(value) for value in grid)
        self.resolution_scale = float(resolution_scale)

    def build(self, *_):
        """Reads the operator."""
        matrix, interior = degradation_matrix(self.grid, self.resolution_scale)
        dense = matrix.toarray()
        seen = dense.sum(axis=1, keepdims=True)
        dense = np.where(interior[:, None], dense, dense / np.maximum(seen, 0.5))
        self._matrix = dense.T.astype("float32")  # (N, P)

    @property
    def interior(self) -> np.ndarray:
        """(P,) bool: pixels whose kernel lies on the grid."""
        return degradation_matrix(self.grid, self.resolution_scale)[1]

    def call(self, flux):
        """See the class."""
        return ops.matmul(flux, self._matrix)

    def get_config(self):
        """Arguments, for saving."""
        return {
            **super().get_config(),
            "grid": list(self.grid),
            "resolution_scale": self.resolution_scale,
        }
