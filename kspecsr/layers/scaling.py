"""Units put on and taken off."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from data_pipeline.instrument import FWHM_PER_SIGMA


@keras.saving.register_keras_serializable("kspecsr")
class Divide(keras.layers.Layer):
    """x / scale.

    Inputs:
        x: (B, n); scale: (B, 1).
    """

    def call(self, x, scale):
        """See the class."""
        return x / scale


@keras.saving.register_keras_serializable("kspecsr")
class Multiply(keras.layers.Layer):
    """x * scale.

    Inputs:
        x: (B, n); scale: (B, 1).
    """

    def call(self, x, scale):
        """See the class."""
        return x * scale


@keras.saving.register_keras_serializable("kspecsr")
class BrightestPixel(keras.layers.Layer):
    """Largest absolute flux or error of a spectrum's good pixels.

    Inputs:
        flux, error, good: (B, P).

    Output shape:
        (B, 1).
    """

    def call(self, flux, error, good):
        """See the class."""
        return ops.max(good * (ops.abs(flux) + error), axis=-1, keepdims=True) + 1e-3


@keras.saving.register_keras_serializable("kspecsr")
class Fwhm(keras.layers.Layer):
    """Observed full width at half maximum, the pixel's width included.

    Args:
        grid: start [um], stop [um] and sampling of the unified grid.

    Inputs:
        sigma, wavelength: (B, K) [um].

    Output shape:
        (B, K) [um].
    """

    def __init__(self, grid, **options):
        super().__init__(**options)
        self.grid = tuple(float(value) for value in grid)

    def call(self, sigma, wavelength):
        """See the class."""
        pixel = wavelength / self.grid[2]
        return np.float32(FWHM_PER_SIGMA) * ops.sqrt(sigma**2 + pixel**2 / 12.0)

    def get_config(self):
        """Arguments, for saving."""
        return {**super().get_config(), "grid": list(self.grid)}


@keras.saving.register_keras_serializable("kspecsr")
class UnitConversion(keras.layers.Layer):
    """Multiplies by a fixed factor, in float32.

    Args:
        factor: e.g. 1e20 from erg/s/cm2/A to the unit inside the networks.
    """

    def __init__(self, factor, **options):
        super().__init__(**options)
        self.factor = float(factor)

    def call(self, x):
        """See the class."""
        return x * self.factor

    def get_config(self):
        """Arguments, for saving."""
        return {**super().get_config(), "factor": self.factor}
